"""Folders of images as people have them: found, recognised, labelled."""
