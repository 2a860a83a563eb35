"""The stages of `search.nas`: commands, their files, and what they are worth."""
