"""Networks of a space: choices, encodings, digests, and networks as text."""
