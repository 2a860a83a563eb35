"""What a run has, looks at and says before its first step."""
