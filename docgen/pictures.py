"""Draw the docs' pictures from benchmarks/results; nothing is compiled.

    python -m docgen.pictures

Writes docs/assets/roofline.png, headline.png, stage_choices.png, growth.png and, for
pages at night, each again with -dark in its name.
"""

import argparse
import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.support import results
from common import cli
from common.project import ROOT
from docgen import growth, headline, latencies
from docgen.drawn import Picture

FOLDER = ROOT / "docs/assets"
PICTURE = Picture("tpu.roofline", "rows")


def draw(report: Mapping[str, Any], folder: Path) -> None:
    """Draw the pictures of benchmarks.tpu.roofline.

    Args:
      report: of the benchmark.
      folder: to write them to.
    """
    from performance import plots  # loads matplotlib
    from performance.analysis import RooflineRow

    rows = [RooflineRow(**row) for row in report["rows"]]
    title = "{hardware}, {device}, batch {batch}, {dtype}".format(**report["settings"])
    paint = functools.partial(plots.roofline, rows=rows, title=title)
    PICTURE.write(report, folder, paint)


# Who draws what.
DRAWN = (
    (PICTURE, draw),
    (headline.PICTURE, headline.draw),
    (latencies.PICTURE, latencies.draw),
    (growth.PICTURE, growth.draw),
)


def _parser() -> argparse.ArgumentParser:
    return cli.parser("docgen.pictures", __doc__)


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Draw the pictures of the docs."""
    del arguments
    for picture, draws in DRAWN:
        draws(results.load(results.FOLDER / f"{picture.benchmark}.json"), FOLDER)
    names = [name for picture, _ in DRAWN for name in picture.files]
    print(f"wrote {', '.join(names)} to {FOLDER}")


if __name__ == "__main__":
    sys.exit(main())
