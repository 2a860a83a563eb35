"""What would keep a job from starting or ending well, found before it is submitted."""
