"""From records on a disk or in a bucket to batches: read, decoded, augmented, mixed."""

from common import gcs_reads

gcs_reads.set_environment()  # before a module of this package imports TensorFlow
