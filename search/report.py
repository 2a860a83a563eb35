"""Write one HTML file that shows what a search has found so far.

It opens without a network and can be sent to others. It is made from the plain files of
the search's folder, also while the search is running.

    python -m search.report --search_dir=runs/lacs
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from common import cli, console, extras, files
from common.console import count
from common.errors import Status, UserError
from search.reports import report_data, report_forms, report_page
from search.reports.report_data import SearchData
from search.reports.report_family_rows import SEARCH_FACTS
from search.reports.report_page import COMMAND

FILE = "report.html"


def write(search_dir: str | Path, output: str | Path | None = None) -> Path:
    """Write the report of a search.

    Args:
      search_dir: the search's folder.
      output: of the page; report.html in that folder by default.

    Returns:
      Where it stands.

    Raises:
      UserError: the folder holds no search, the page cannot be written, what stands at
        its place is not ours, or the extra "search" is not installed.
    """
    path = Path(output) if output is not None else Path(search_dir) / FILE
    extras.require("altair", "vl_convert", task=COMMAND)
    data = report_data.read(Path(search_dir))
    files.refuse_foreign(path, report_page.is_ours)
    page = _page(data)
    try:
        files.write_bytes(path, page, is_ours=report_page.is_ours)
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or path}: {error.strerror}; mend that or "
            "name another file by --output"
        ) from error
    return path


def write_or_warn(search_dir: Path) -> None:
    """Write the report at the end of a search: a search of hours is not lost for it."""
    try:
        print(f"report: {write(search_dir)}")
    except (OSError, UserError) as error:
        console.warn(f"{error}; python -m search.report makes the report")


def _page(data: SearchData) -> bytes:
    """Return the page."""
    from search.reports import report_blocks, report_family, report_nas

    family, unreadable = data.family, list(data.unreadable)
    if family is not None and (why := report_forms.wrong(family)):
        unreadable.append(
            f"{report_data.FAMILY} is not as search.lacs writes it, and is not drawn: "
            f"{why}."
        )
        family = None
    page = report_page.Page(_title(data))
    page.paragraph(
        f"As of {time.strftime('%Y-%m-%d %H:%M %Z')}. {_summary(data)}", "note"
    )
    for text in unreadable:
        page.paragraph(text, "warning")
    _conditions(page, data, family)
    if data.nas is not None:
        report_nas.write(page, data)
    if family is not None:
        report_family.write(page, family)
    if data.results:
        report_blocks.write(page, data)
    if family is None and data.nas is None and not data.results:
        page.paragraph("Nothing has been evaluated yet.")
    _settings(page, data)
    return page.html(data.as_json(), _bundle())


def _title(data: SearchData) -> str:
    if data.family is not None and isinstance(data.family.get("name"), str):
        base = data.family.get("base")
        return f"{data.family['name']}: a family of {base}"
    return f"Search {data.folder.resolve().name}"


def _summary(data: SearchData) -> str:
    parts = []
    if data.family is not None:
        parts.append("A search for the best sizes of a network.")
    if data.nas is not None:
        parts.append("A neural architecture search, and what it is worth.")
    if data.results:
        parts.append(f"{count(len(data.results), 'network')} evaluated.")
    if data.latencies:
        parts.append(f"{count(data.latencies, 'latency', 'latencies')} kept.")
    return " ".join(parts)


def _conditions(page: report_page.Page, data: SearchData, family: Any) -> None:
    """Say what all that follows was found under."""
    from search.reports.report_text import facts

    page.heading("Conditions")
    lines = facts(data.search or {})
    about = family["about"] if family else {}
    lines += facts({k: v for k, v in about.items() if k not in SEARCH_FACTS})
    for number, one in enumerate(data.conditions, start=1):
        which = "latencies" if len(data.conditions) == 1 else f"latencies, {number}"
        lines += facts({which: one})
    if lines:
        page.facts(lines)
    if data.search is None:
        page.paragraph(f"There is no {report_data.SEARCH} that would say them all.")


def _settings(page: report_page.Page, data: SearchData) -> None:
    from search.reports.report_text import texts

    for name, text in texts(data.search or {}).items():
        page.heading(f"Settings: {name}")
        page.text(text)


def _bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    # Its stub demands a snippet; with its own one, it remembers the bundle.
    return vl_convert.javascript_bundle(vl_version=version)  # type: ignore


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(COMMAND, __doc__)
    add = parser.add_argument
    add("--search_dir", type=cli.path, required=True, help="folder of the search")
    add(
        "--output",
        type=cli.path,
        help=f"the file to write; {FILE} in that folder by default",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Write the report."""
    path = write(arguments.search_dir, arguments.output)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return Status.OK


if __name__ == "__main__":
    sys.exit(main())
