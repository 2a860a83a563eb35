"""A run, looked at before its launch: images, host input, memory, time of a step."""

from common import gcs_reads

gcs_reads.set_environment()  # before a module of this package imports TensorFlow
