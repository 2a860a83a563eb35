"""Tables of what reading and writing gs:// takes, from benchmarks.storage."""

from collections.abc import Mapping
from typing import Any

from docgen.markdown import table, three_digits

Report = Mapping[str, Any]

_READING = {
    "training": "training",
    "evaluation": "evaluation",
    "plain": "plain `tf.data`, a whole epoch in no order that can be resumed",
}
_CHECKPOINTS = {
    "write": "a checkpoint, written and read back",
    "restore": "the same, restored",
    "best": "the same, copied to `best/`",
    "reader": "the same, by TensorFlow's reader, tensor by tensor",
}


def storage(report: Report, note: str) -> str:
    """Return bytes and requests for a byte, and what waiting allows.

    Args:
      report: of benchmarks.storage.
      note: the line below a benchmark's table.
    """
    files = list(dict.fromkeys(row["files"] for row in report["reading"]))
    order = sorted(
        report["reading"], key=lambda row: (files.index(row["files"]), row["what"])
    )
    reading = [
        (
            f"{row['files']}: {_READING[row['what']]}",
            row["side"],
            f"{row['fetched']:.2f}",
            three_digits(row["reads_per_image"]),
        )
        for row in order
    ]
    checkpoints = [
        (
            _CHECKPOINTS[row["what"]],
            row["side"],
            f"{row['fetched']:.2f}",
            f"{row['sent']:.2f}",
            f"{row['requests']}",
        )
        for row in report["checkpoint"]
    ]
    waiting = report["waiting"]
    allowed = waiting["waiting_allows_images_per_second"]
    hosts = list(next(iter(allowed.values())))
    size = report["checkpoint"][0]["bytes"] / 1e6
    settings = report["settings"]
    return "\n\n".join(
        [
            f"Bytes fetched for a byte of records, of about {settings['record_kb']} kB "
            "(digits: 1.4 kB in files of 0.7 MB), and reads for an image:",
            table(
                ("files", "settings", "fetched", "reads an image"),
                reading,
                right="  rr",
            ),
            f"Bytes fetched and sent for a byte of a checkpoint of {size:.1f} MB and "
            f"{settings['tensors']} tensors, and requests of all kinds:",
            table(
                ("", "settings", "fetched", "sent", "requests"),
                checkpoints,
                right="  rrr",
            ),
            f"A heartbeat every ten seconds is "
            f"{report['heartbeat_requests_per_hour']:,} requests an hour.",
            "Images/s of training if requests only waited for their answers, two for "
            "each chunk of 16:",
            table(
                ("a request waits", *hosts),
                [
                    (wait, *(f"{by[host]:,}" for host in hosts))
                    for wait, by in allowed.items()
                ],
                right=" " + "r" * len(hosts),
            ),
            "Measured, with a wait of 200 ms and one buffer, was "
            f"{waiting['of_what_waiting_allows']:.2f} of that.",
            note,
        ]
    )
