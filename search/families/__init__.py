"""Families of networks: candidates, their members, comparisons, and their files."""
