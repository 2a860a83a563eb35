"""Stand-in of this worktree alone; helper SPACE writes the module."""
from search.digests import digest
