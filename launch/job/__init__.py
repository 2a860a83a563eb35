"""The job file: what is to run, on which machines, for how much."""
