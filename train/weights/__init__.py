"""Weights that others have trained: found by name or path, read, and put into a model."""
