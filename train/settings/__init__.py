"""What a config says, and may say."""
