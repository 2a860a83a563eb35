"""What a form may lose, by numbers of which each is known."""

import numpy as np
import pytest

from common.errors import UserError
from train.exports.formats import scores
from train.exports.formats.forms import Wanted
from train.exports.formats.images import UNKNOWN, Batch
from train.exports.formats.runtimes import Answer

NOISE = 1e-4
LABELS = np.array([0, 1, 1, 0, 1], np.int32)


def answer(logits):
    logits = np.asarray(logits, np.float32)
    powers = np.exp(logits)
    return Answer(logits, powers / powers.sum(-1, keepdims=True))


# Right of the third class but one; by the margins 2, 2, 0.01, 3, 1.
WHOLE = [[2.0, 0], [0, 2.0], [0, 0.01], [3.0, 0], [1.0, 0]]


def scored(form, logits, labels=LABELS, most=2):
    """In batches of two, the last one smaller."""
    pixels = np.arange(len(labels), dtype=np.float32)

    def run_of(values):
        return lambda wanted: answer(np.asarray(values)[wanted.astype(int)])

    batches = [
        Batch(pixels[i : i + most], labels[i : i + most])
        for i in range(0, len(labels), most)
    ]
    return scores.score({"savedmodel": run_of(WHOLE), form: run_of(logits)}, batches)


def judged(form, logits, labels=LABELS, **wanted):
    found, largest = scored(form, logits, labels)
    scores.judge(found, largest, NOISE, Wanted((form,), **wanted))
    return found[form]


def test_what_is_counted():
    logits = [[2.0, 0], [0, 1.5], [0.25, 0.01], [3.0, 0], [1.0, 0]]
    found, largest = scored("onnx", logits)
    assert largest == 3.0
    whole = found["savedmodel"]
    assert (whole.images, whole.labelled, whole.right) == (5, 5, 4)
    assert (whole.same_class, whole.largest_logit_difference) == (5, 0.0)
    one = found["onnx"]
    assert (one.images, one.right, one.same_class) == (5, 3, 4)
    assert one.largest_logit_difference == 0.5
    shares = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-1.5))  # of the second image
    assert one.largest_probability_difference == pytest.approx(
        shares[0] - shares[1], rel=1e-5
    )
    assert (whole.top1, one.top1) == (0.8, 0.6)


@pytest.mark.parametrize("form", ["onnx", "litert-float32"])
def test_float32_has_to_be_equal_but_for_noise(form):
    """Of logits up to 10, as the largest is less."""
    near, far = (np.add(WHOLE, step * 10 * NOISE) for step in (0.9, 1.1))
    assert judged(form, near).same_class == 5
    with pytest.raises(UserError) as refused:
        judged(form, far)
    assert str(refused.value) == (
        f"the logits of {form} differ from the SavedModel's by 0.0011 (of 3) on 5 "
        "images: its converter does not do this network right; leave it out of "
        "--format"
    )
    with pytest.raises(UserError, match="differ from the SavedModel's by nan"):
        judged(form, np.full_like(WHOLE, np.nan))


def test_int8_may_lose_some_points(capsys):
    """One image always: of few it is more than a point."""
    logits = np.array(WHOLE)
    logits[0] = [0, 1]
    assert judged("litert-int8", logits, max_loss=0).right == 3
    logits[1] = [1, 0]
    with pytest.raises(UserError) as refused:
        judged("litert-int8", logits)
    assert str(refused.value) == (
        "litert-int8 has 2 of 5 images right, the SavedModel 4: it loses 40.0 points "
        "of top-1, and --max_loss allows 1; allow more (--max_loss=40) or leave it out "
        "of --format"
    )
    assert judged("litert-int8", logits, max_loss=40).right == 2
    assert capsys.readouterr().err == ""


def test_float16_is_to_change_ties_alone(capsys):
    """Two logits may come together by 2 x 2**-11 sqrt(1000) 10 = 0.31."""
    logits = np.array(WHOLE)
    logits[2] = [0.01, 0]
    assert judged("litert-float16", logits).same_class == 4
    assert capsys.readouterr().err == ""
    logits[4] = [0, 0.5]  # right, and yet another class by more than rounding
    assert judged("litert-float16", logits).right == 4
    assert capsys.readouterr().err == (
        "warning: litert-float16 gives 1 image of 5 another class than the "
        "SavedModel, and by more than its rounding explains\n"
    )


def test_photos_have_no_labels(capsys):
    unknown = np.full(5, UNKNOWN, np.int32)
    logits = np.array(WHOLE)
    logits[0] = logits[1] = [0.1, 0]
    found = judged("litert-int8", logits, unknown)
    assert (found.labelled, found.right, found.top1) == (0, 0, None)
    assert capsys.readouterr().err.startswith(
        "warning: litert-int8 gives 1 of 5 images another class than the SavedModel; "
    )
    judged("litert-int8", logits, unknown, max_loss=20)
    assert capsys.readouterr().err == ""


def test_one_class_has_no_margin():
    one = answer([[3.0], [2.0]])
    score = scores.Score()
    score.add(one, one, np.zeros(2, np.int32))
    assert (score.same_class, score.clear_changes) == (2, 0)


def test_rows_and_table():
    found, _ = scored("onnx", WHOLE)
    latencies = {"savedmodel": (2.5, 9), "onnx": (0.1234, 100)}
    times = {
        form: {"milliseconds": time, "runs": runs}
        for form, (time, runs) in latencies.items()
    }
    sizes = {"savedmodel": 2_000_499, "onnx": 1_000}
    rows = scores.rows(found, sizes, times)
    assert rows[1] == {
        "form": "onnx",
        "bytes": 1000,
        "images": 5,
        "labelled": 5,
        "right": 4,
        "same_class": 5,
        "largest_logit_difference": 0.0,
        "largest_probability_difference": 0.0,
        "top1": 0.8,
        "milliseconds": 0.1234,
        "runs": 100,
    }
    assert scores.table(rows)[:3] == [
        "form           kB   top-1  same class  logits  probabilities     ms",
        "savedmodel  2,000  80.00%      5 of 5       0              0    2.5",
        "onnx            1  80.00%      5 of 5       0              0  0.123",
    ]
    unscored = scores.rows({}, sizes, times)
    assert unscored[0]["images"] == 0
    assert unscored[0]["top1"] is unscored[0]["right"] is None
    assert scores.table(unscored)[2].split() == ["onnx", "1", *"----", "0.123"]
