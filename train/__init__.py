"""The trainer. Nothing slow is imported here, so that each entry point stays light."""

import os

from common import gcs_reads

# TensorFlow's C++ notes (CPU features, missing CUDA) bury what a user has to read.
# Warnings and errors from Python, and C++ errors, still come through.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
gcs_reads.set_environment()
