"""Calls and training steps on a device: what they time, ours and timm's."""
