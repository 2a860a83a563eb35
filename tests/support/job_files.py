"""Job files for tests: the examples, as they are or with some text replaced."""

from pathlib import Path

from common.project import ROOT

EXAMPLES = sorted((ROOT / "launch/jobs").glob("*.yaml"))


def text_of(name: str) -> str:
    """Return an example's text."""
    return (ROOT / f"launch/jobs/{name}.yaml").read_text()


def write(folder: Path, text: str, *changes: tuple[str, str]) -> Path:
    """Write a job file; of each pair in `changes` the first text becomes the second."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "job.yaml"
    path.write_text(text)
    return path
