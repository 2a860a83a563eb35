"""~ in paths, as a shell reads it: one does not look behind the = of --output=~/x."""

import os

_LOCAL = "file://"


def expand(path: str) -> str:
    """Return a path with the home folder that a leading ~, or ~name, stands for.

    Args:
      path: of a flag or a setting. ./~ is a folder of that name, and so is the ~name of
        nobody's.

    Returns:
      The path; as it is where no home is known: HOME is empty, or a relative path.
    """
    scheme = _LOCAL * path.startswith(_LOCAL)
    local = path.removeprefix(scheme)
    found = os.path.expanduser(local)
    relative = local.partition("/")[0] == "~" and not os.environ.get(
        "HOME", "/"
    ).startswith("/")
    return path if relative else f"{scheme}{found}"
