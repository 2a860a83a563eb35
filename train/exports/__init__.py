"""What others get of a run: a SavedModel, checked before it gets its name."""
