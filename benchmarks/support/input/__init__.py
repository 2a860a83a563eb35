"""What feeding an image costs: the pipelines, each side's, and what uint8 loses."""
