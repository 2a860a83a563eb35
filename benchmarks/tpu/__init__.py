"""What TPUs would do, by their compiler: no TPU is needed, `make tpu-compiler` is."""
