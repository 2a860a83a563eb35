"""The trainer. Nothing is imported here, so that each entry point stays light."""

import os

# TensorFlow's C++ notes (CPU features, missing CUDA) bury what a user has to read.
# Warnings and errors from Python, and C++ errors, still come through.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# It would remember of gs:// what `common.gcs`, and other machines, have changed since.
os.environ.setdefault("GCS_STAT_CACHE_MAX_AGE", "0")
