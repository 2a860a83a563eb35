"""Training and validate agree about every record, and none of them ends a process."""

import functools
import multiprocessing

import pytest
import tensorflow as tf

from input_pipeline import dataset, dataset_info, records
from input_pipeline.preprocess import THE_REFERENCE, eval_image
from input_pipeline.validation.findings import FaultKind, Findings
from input_pipeline.validation.inspect_shard import (
    ShardTask,
    _inspect_record,
    _Record,
)
from tests.input_pipeline import malformed
from tests.input_pipeline.builders import LABEL_NAMES

INFO = dataset_info.DatasetInfo("tiny", 1, LABEL_NAMES, {})
TASK = ShardTask("train-0", records.ShardInfo("train-0", 1, (0,)), range(1, 6), True)


def disagreements(cases: dict[str, bytes]) -> tuple[dict[str, list[str]], int, int]:
    """Those of which training and validate judge otherwise; how many are sound."""

    def image(serialized):
        element = {"serialized": serialized}
        make = functools.partial(eval_image, resolution=16, crop=THE_REFERENCE)
        return dataset._eval_element(element, info=INFO, make=make)["image"]

    trained = tf.function(image, autograph=False).get_concrete_function(
        tf.TensorSpec([], tf.string)
    )
    found, sound, odd = {}, 0, 0
    for name, content in cases.items():
        try:
            trained(tf.constant(content))
            takes = True
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
            takes = False
        findings = Findings()
        _inspect_record(_Record(0, content, None), TASK, findings)
        # Training takes those, and learns what libjpeg makes up.
        errors = findings.errors - findings.counts[FaultKind.MADE_UP_PIXELS]
        if takes == bool(errors):
            found[name] = [kind.name for kind in findings.found()]
        sound += takes
        odd += findings.counts[FaultKind.ODD_EXAMPLE]
    return found, sound, odd


def in_a_process(cases: dict[str, bytes]) -> tuple[dict[str, list[str]], int, int]:
    """A crash is a test that fails, not the end of all tests."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply_async(disagreements, (cases,)).get(timeout=300)


# One of each kind of disagreement that there was.
FEW = [
    *("sound", "nothing", "two labels", "labels in both ways", "image, then number"),
    *("number, then image", "an image twice", "a name twice", "varint in features"),
    *("group behind", "field 0 in a list", "a long tag", "other 0", "labels 268435456"),
    *("features 16384", "a field b'\\xff\\xfe'", "unknown 2147483647", "no images"),
]


def test_a_length_of_2_gb_is_an_error_and_no_crash():
    """Were it one, this process would end here."""
    with pytest.raises((tf.errors.InvalidArgumentError, UnicodeDecodeError)):
        records.parse(tf.constant(malformed.CRASHING))
    findings = Findings()
    _inspect_record(_Record(0, malformed.CRASHING, None), TASK, findings)
    assert findings.counts == {FaultKind.NOT_AN_EXAMPLE: 1}


def test_a_few_malformed_records():
    found, sound, odd = disagreements({name: malformed.CRAFTED[name] for name in FEW})
    assert found == {}
    assert (sound, odd) == (9, 6)


@pytest.mark.slow
def test_all_malformed_records():
    cases = malformed.CRAFTED | malformed.mutated(300)
    assert len(malformed.CRAFTED) >= 300
    found, sound, _ = in_a_process(cases)
    assert found == {}
    assert 100 < sound < len(cases) - 100
