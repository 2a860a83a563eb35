"""A run as on a slice of TPUs, on CPUs: TensorFlow's own TPUStrategy without a TPU."""
