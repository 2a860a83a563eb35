"""Where this project lies, and which gin files it brings."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def gin_files() -> str:
    """Return in words which recipes there are."""
    runs = sorted(f"gin_configs/runs/{f.name}" for f in ROOT.glob("gin_configs/runs/*"))
    return f"those of the project: {', '.join(runs)}"


def why_no_gin_file(path: str) -> str | None:
    """Return why a path names no gin file; None where it does, or is in a bucket.

    Args:
      path: as given, or relative to the project's folder.
    """
    if "://" in path or Path(path).is_file() or (ROOT / path).is_file():
        return None
    return f"there is no gin file {path}; {gin_files()}"
