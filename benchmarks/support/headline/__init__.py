"""The paper's comparison: other people's networks, and their milliseconds on TPUs."""
