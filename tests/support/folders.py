"""What lies in a folder, to see that nothing of it has changed; and what may not be."""

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


_NEW = "name a file to be written anew"
NOT_OURS = (
    "exists, and is not what this command has written: move it away or name another "
    "file"
)
# What may stand at a path to write to, and how it is refused.
FOREIGN = [
    (lambda path: path.write_text("mine"), NOT_OURS),
    (lambda path: path.touch(), NOT_OURS),
    (lambda path: path.symlink_to("mine"), f"is a link: {_NEW}"),
    (lambda path: path.symlink_to("nowhere"), f"is a link: {_NEW}"),
    (os.mkdir, f"is a folder: {_NEW}"),
    (os.mkfifo, f"is a named pipe: {_NEW}"),
]
