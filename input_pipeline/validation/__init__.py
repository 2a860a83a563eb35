"""Data sets are read whole before a run does, and what is wrong is named."""
