"""Data sets are written: from folders of photos, ImageNet's archives, digits."""
