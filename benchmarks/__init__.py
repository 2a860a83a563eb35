"""Prints JSON about what the other rooms do, and how others do the same."""
