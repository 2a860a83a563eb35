"""Draw the docs' pictures from benchmarks/results; nothing is compiled.

    python -m docgen.pictures

Writes docs/assets/roofline.png, headline.png, stage_choices.png, growth.png and, for
pages at night, each again with -dark in its name.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.support import results
from common import cli, files
from common.project import ROOT
from docgen import latencies

FOLDER = ROOT / "docs/assets"
# By name, whether it is for a page at night.
PICTURES = {"roofline.png": False, "roofline-dark.png": True}


def mark(report: dict) -> str:
    """Return what a picture says of its origin: the command and the figures' digest."""
    figures = files.digest(json.dumps(report["rows"]).encode())
    return f"docgen.pictures of {figures}"


def draw(report: dict, folder: Path) -> None:
    """Draw the pictures.

    Args:
      report: of benchmarks.roofline.
      folder: to write them to.
    """
    from performance import plots  # loads matplotlib
    from performance.analysis import RooflineRow

    rows = [RooflineRow(**row) for row in report["rows"]]
    title = "{hardware}, {device}, batch {batch}, {dtype}".format(**report["settings"])
    for name, dark in PICTURES.items():
        with files.writing(folder / name) as path:
            plots.roofline(path, rows, title, dark=dark, command=mark(report))


def _parser() -> argparse.ArgumentParser:
    return cli.parser("docgen.pictures", __doc__)


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Draw the pictures of the docs."""
    del arguments
    from docgen import growth, headline

    draw(results.load(results.FOLDER / "roofline.json"), FOLDER)
    headline.draw(results.load(results.FOLDER / "headline.json"), FOLDER)
    latencies.draw(results.load(results.FOLDER / "stage_choices.json"), FOLDER)
    growth.draw(results.load(results.FOLDER / "growth.json"), FOLDER)
    of_others = (headline.PICTURES, latencies.PICTURES, growth.PICTURES)
    names = [*PICTURES, *(name for pictures in of_others for name in pictures)]
    print(f"wrote {', '.join(names)} to {FOLDER}")


if __name__ == "__main__":
    sys.exit(main())
