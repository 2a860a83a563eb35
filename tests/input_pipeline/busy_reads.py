"""A process that reads gs://data/digits while its bucket fails; prints what it met.

    python -m tests.input_pipeline.busy_reads CASE ...

prints JSON: for each case how it ended, with which line, the records by position, and
how often the bucket was asked. What the bucket does is in `FAULTS`; they begin once the
pipeline stands.
"""

import json
import os
import sys
import urllib.request
from typing import Any

from common.storage_errors import translated

SIZE = 128  # records of a pass, and of a buffer
READ = {"op": "read", "name": "train-"}
FAULTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "busy": [{**READ, "do": "503"}],
    "all busy": [{"do": "503"}],
    "slow down": [{**READ, "do": "429"}],
    "broken connections": [{**READ, "do": "drop"}],
    # Less than what two chunks ask for before they give up, so some do and some do not.
    "short": [{**READ, "do": "503", "times": 40}],
    "refused": [{**READ, "do": "403"}],
    "not there": [{**READ, "do": "404"}],
    "anonymous": [{**READ, "do": "401"}],
}


def ask(what: str, body: Any = None) -> Any:
    """Ask the fake itself, see tests.support.fake_gcs.hands."""
    url = f"http://{os.environ['GCE_METADATA_HOST']}/_fake/{what}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data)) as answer:
        return json.load(answer)


def meet(case: str, data_dir: str) -> dict[str, Any]:
    """Read a pass, with on_bad_record = "skip", while the bucket fails."""
    from input_pipeline import dataset

    make, _, fault = case.partition(": ")
    options: dict[str, Any] = {
        "data_dir": data_dir,
        "resolution": 16,
        "batch_size": SIZE,
        "on_bad_record": "skip",
        "split": "train",
    }
    if make == "train":
        options |= {"seed": 0, "shuffle_buffer": SIZE}
    batches = iter(getattr(dataset, f"{make}_dataset")(**options))
    ask("reset", {})
    ask("faults", FAULTS[fault])
    met: dict[str, Any] = {"end": "read"}
    try:
        with translated():
            batch = next(batches)
        met["labels"] = batch["label"].numpy().tolist()
        met["sum"] = int(batch["image"].numpy().astype("int64").sum())
    except Exception as error:
        met = {"end": type(error).__name__, "line": str(error)}
    ops = ask("stats")["ops"]
    ask("faults", [])
    met["requests"] = sum(row["requests"] for row in ops.values())
    return met


def main(cases: list[str]) -> None:
    """Print what was met; of a "local" case with the copy in $DIGITS."""
    met = {}
    for case in cases:
        local = case.startswith("local ")
        data_dir = os.environ["DIGITS"] if local else "gs://data/digits"
        met[case] = meet(case.removeprefix("local "), data_dir)
    sys.stdout.write(json.dumps(met))


if __name__ == "__main__":
    main(sys.argv[1:])
