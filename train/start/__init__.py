"""What is looked at and said before the first step of a run."""
