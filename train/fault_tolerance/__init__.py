"""What a run survives: preemption, hangs, bad numbers, lost peers."""
