"""Searching for families of networks that an accelerator of one's own runs fast."""
