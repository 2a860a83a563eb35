"""What makes the documentation: its site, its reference, its checks."""
