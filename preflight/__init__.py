"""A run, looked at before its launch: images, host input, memory, time of a step."""
