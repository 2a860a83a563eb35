"""Images that a dataset holds more than once, byte for byte."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.validation.findings import FaultKind, Findings
from input_pipeline.validation.inspect_shard import ShardReport

# A smaller share of a split is a warning only: ImageNet has a few hundred repeated
# images among 1.3 million.
_TOLERATED = 1 / 1000


def check_repeats(
    shards: Mapping[str, Sequence[ShardReport]], findings: Findings
) -> None:
    """Note every image, of all splits, whose bytes an earlier one has."""
    owners = [(split, report) for split, s in shards.items() for report in s]
    begins = np.cumsum([0, *(len(report.images) for _, report in owners)])
    counts: collections.Counter[tuple[FaultKind, str]] = collections.Counter()

    def owner(image: int) -> tuple[str, ShardReport, int]:
        number = int(np.searchsorted(begins, image, side="right")) - 1
        return *owners[number], image - int(begins[number])

    for image, earlier in _repeats([report.images["digest"] for _, report in owners]):
        split, report, row = owner(image)
        first_split, first_report, first_row = owner(earlier)
        label = report.images["label"][row]
        first_label = first_report.images["label"][first_row]
        kind = FaultKind.DUPLICATE
        if split != first_split:
            kind = FaultKind.LEAK
        elif label != first_label:
            kind = FaultKind.CONFLICT
        labels = f"label {label}, not {first_label}, " if label != first_label else ""
        detail = f"{labels}as {first_report.location(first_row)}"
        findings.add(kind, report.location(row, detail))
        counts[kind, split] += 1
    _tolerate_few(counts, shards, findings)


def _repeats(digests: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Return each image that has an earlier equal, with the first of those."""
    low, high = np.concatenate(digests).T
    order = np.lexsort((low, high))  # stable: equal ones stay in their order
    low, high = low[order], high[order]
    is_repeat = np.zeros(len(order), bool)
    is_repeat[1:] = (low[1:] == low[:-1]) & (high[1:] == high[:-1])
    first = np.maximum.accumulate(np.where(is_repeat, 0, np.arange(len(order))))
    pairs = np.stack([order, order[first]], axis=1)[is_repeat]
    return [(int(image), int(earlier)) for image, earlier in sorted(pairs.tolist())]


def _tolerate_few(
    counts: Mapping[tuple[FaultKind, str], int],
    shards: Mapping[str, Sequence[ShardReport]],
    findings: Findings,
) -> None:
    for kind in (FaultKind.LEAK, FaultKind.CONFLICT, FaultKind.DUPLICATE):
        most = max(
            counts.get((kind, split), 0) / max(1, sum(len(r.images) for r in reports))
            for split, reports in shards.items()
        )
        if most < _TOLERATED:
            findings.tolerated.add(kind)
