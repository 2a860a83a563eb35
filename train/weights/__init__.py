"""Weights that others have trained: found by name or path, read, put into a model."""
