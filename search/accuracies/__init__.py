"""Where top-1 comes from: published results and trainings."""
