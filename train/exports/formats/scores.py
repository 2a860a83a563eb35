"""Each form in its own runtime, beside the SavedModel, and what it may lose."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from common import console
from common.console import count
from common.errors import UserError
from train.exports.formats.forms import FORMS, SAVED_MODEL, Wanted
from train.exports.formats.images import UNKNOWN, Batch
from train.exports.formats.runtimes import Answer, Run

# float16 rounds each weight by up to 2**-11 of itself. Errors of either sign add up as
# their root, layer by layer; no network here has more than a thousand layers of weights
# one behind another.
_FLOAT16_NOISE = 2**-11 * math.sqrt(1000)  # 1.5 % of the largest logit, or of 10


@dataclasses.dataclass
class Score:
    """How a form agrees with the SavedModel.

    Attributes:
      images: scored.
      labelled: of these, how many have a known class.
      right: of these.
      same_class: images with the SavedModel's class.
      clear_changes: images of another class whose two best logits lie farther apart, in
        the SavedModel, than float16's noise could bring them together.
      largest_logit_difference: to the SavedModel.
      largest_probability_difference: to the SavedModel.
    """

    images: int = 0
    labelled: int = 0
    right: int = 0
    same_class: int = 0
    clear_changes: int = 0
    largest_logit_difference: float = 0.0
    largest_probability_difference: float = 0.0

    def add(self, found: Answer, expected: Answer, labels: np.ndarray) -> None:
        """Count a batch."""
        classes, theirs = found.logits.argmax(-1), expected.logits.argmax(-1)
        self.images += len(labels)
        self.labelled += int(np.sum(labels != UNKNOWN))
        self.right += int(np.sum(classes == labels))
        self.same_class += int(np.sum(classes == theirs))
        noise = _FLOAT16_NOISE * max(10.0, np.abs(expected.logits).max())
        # Each of two logits may move by it, towards the other.
        clear = _margins(expected.logits) > 2 * noise
        self.clear_changes += int(np.sum(clear & (classes != theirs)))
        self.largest_logit_difference = _larger(
            self.largest_logit_difference, found.logits, expected.logits
        )
        self.largest_probability_difference = _larger(
            self.largest_probability_difference,
            found.probabilities,
            expected.probabilities,
        )

    @property
    def top1(self) -> float | None:
        """The share of images with a known class that are right."""
        return self.right / self.labelled if self.labelled else None


def _margins(logits: np.ndarray) -> np.ndarray:
    """Return by how much the best logit of each image is above the next one."""
    if logits.shape[-1] < 2:
        return np.full([len(logits)], np.inf)
    best = np.partition(logits, -2, axis=-1)
    return best[:, -1] - best[:, -2]


def _larger(worst: float, found: np.ndarray, expected: np.ndarray) -> float:
    # Not Python's max, which would pass over what is not a number.
    return float(np.maximum(worst, np.abs(found - expected).max(initial=0.0)))


def score(
    runs: Mapping[str, Run], batches: Iterable[Batch]
) -> tuple[dict[str, Score], float]:
    """Return how each form does, the SavedModel among them, and the largest logit.

    Args:
      runs: by name, among them the SavedModel, which the others are compared with.
      batches: of images.
    """
    scores = {form: Score() for form in runs}
    largest = 0.0
    for batch in batches:
        expected = runs[SAVED_MODEL](batch.pixels)
        largest = _larger(largest, expected.logits, np.zeros_like(expected.logits))
        for form, run in runs.items():
            found = expected if form == SAVED_MODEL else run(batch.pixels)
            scores[form].add(found, expected, batch.labels)
    return scores, largest


def judge(
    scores: Mapping[str, Score], largest: float, tolerance: float, wanted: Wanted
) -> None:
    """Refuse a form that is not the network, or loses too much; warn of what is odd.

    Forms of float32 have to have the SavedModel's logits but for float noise, and so
    its classes, but for ties. float16 and int8 may lose `wanted.max_loss` points of
    top-1, or one image if that is more. Where nobody knows the classes, images with
    another class than the SavedModel's are warned of.

    Args:
      scores: of `score`.
      largest: of `score`.
      tolerance: float noise, of the largest logit or of 10 if that is less.
      wanted: what may be lost.

    Raises:
      UserError: names the form, and what it loses.
    """
    whole = scores[SAVED_MODEL]
    for form, found in scores.items():
        if form == SAVED_MODEL:
            continue
        if FORMS[form].is_exact:
            worst = found.largest_logit_difference
            if not worst <= tolerance * max(10.0, largest):
                raise UserError(
                    f"the logits of {form} differ from the SavedModel's by {worst:.3g} "
                    f"(of {largest:.3g}) on {count(found.images, 'image')}: its "
                    "converter does not do this network right; leave it out of --format"
                )
        elif whole.labelled:
            _refuse_loss(form, found, whole, wanted.max_loss)
        _warn_of_changes(form, found, wanted.max_loss)


def _refuse_loss(form: str, found: Score, whole: Score, max_loss: float) -> None:
    lost = whole.right - found.right
    if lost <= max(1, max_loss / 100 * whole.labelled):
        return
    points = 100 * lost / whole.labelled
    raise UserError(
        f"{form} has {found.right:,} of {count(whole.labelled, 'image')} right, the "
        f"SavedModel {whole.right:,}: it loses {points:.1f} points of top-1, and "
        f"--max_loss allows {max_loss:g}; allow more (--max_loss={math.ceil(points)}) "
        "or leave it out of --format"
    )


def _warn_of_changes(form: str, found: Score, max_loss: float) -> None:
    others = found.images - found.same_class
    if form == "litert-float16" and found.clear_changes:
        console.warn(
            f"{form} gives {count(found.clear_changes, 'image')} of {found.images:,} "
            "another class than the SavedModel, and by more than its rounding explains"
        )
    elif not found.labelled and others > max_loss / 100 * found.images:
        console.warn(
            f"{form} gives {others:,} of {count(found.images, 'image')} another class "
            "than the SavedModel; what that loses is known where the evaluation split "
            "is, and not from photos"
        )


def rows(
    scores: Mapping[str, Score],
    sizes: Mapping[str, int],
    latencies: Mapping[str, Mapping[str, float]],
) -> list[dict[str, Any]]:
    """Return what is known of each form, for JSON.

    Args:
      scores: of `score`; empty where nothing was scored.
      sizes: by form, the bytes of its files.
      latencies: by form, as `latency.measure` returns them.
    """
    found = []
    for form, size in sizes.items():
        one = scores.get(form)
        fields = dataclasses.asdict(one or Score())
        del fields["clear_changes"]
        if one is None:
            fields = dict.fromkeys(fields) | {"images": 0}
        top1 = {"top1": one.top1 if one else None}
        found.append({"form": form, "bytes": size, **fields, **top1, **latencies[form]})
    return found


def table(report: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return `rows` as lines for a person."""
    head = ("form", "kB", "top-1", "same class", "logits", "probabilities", "ms")
    lines: list[tuple[str, ...]] = [head]
    for row in report:
        top1, images = row["top1"], row["images"]
        differences = (
            row["largest_logit_difference"],
            row["largest_probability_difference"],
        )
        lines.append(
            (
                row["form"],
                f"{row['bytes'] / 1000:,.0f}",
                "-" if top1 is None else f"{top1:.2%}",
                f"{row['same_class']:,} of {images:,}" if images else "-",
                *("-" if d is None else f"{d:.2g}" for d in differences),
                f"{row['milliseconds']:.3g}",
            )
        )
    return [
        *console.table(lines, right=True),
        "logits, probabilities: the largest difference to the SavedModel's; ms: median "
        f"of {min(row['runs'] for row in report):.0f} runs or more, one image on one "
        "core",
    ]
