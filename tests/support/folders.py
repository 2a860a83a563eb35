"""What lies in a folder, to see that nothing of it has changed."""

import os
import stat
from pathlib import Path


def content(folder: Path) -> dict[str, bytes | str | int]:
    """All that lies in a folder, each link as what it says, each file by its bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if stat.S_ISREG(mode) else stat.S_IFMT(mode)
    return found
