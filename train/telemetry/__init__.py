"""What a run says: its log, curves, rows and summary."""
