"""Counts that are mostly a mistake, and the lines that say so."""

import dataclasses

import pytest

from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.records import ShardInfo
from tests.support.runs import experiment_of
from train.start import counts

NAMES = ("cat", "dog", "emu")
E = "experiment.Experiment"


def data(train=(40, 30, 30), validation=(10, 10, 10), names=NAMES):
    """Data of so many images of each class; a number alone is not counted by class."""

    def split(images):
        counted = isinstance(images, tuple)
        total = sum(images) if counted else images
        return SplitInfo((ShardInfo("s", total, ()),), images if counted else None)

    splits = {"train": split(train), "validation": split(validation)}
    return DatasetInfo("pets", 1, names, splits)


def tiny(**changes):
    changes = {"epochs": 100.0} | changes
    return experiment_of("pets", **{f"{E}.{k}": v for k, v in changes.items()})


ONE_CLASS = (
    "pets has one class alone, 'cat', of which nothing can be learnt: a folder of "
    "photos to prepare has a folder for each class"
)
SPARE = (
    "pets has 3 classes but the model has 1,000 outputs: bind "
    "efficientnet_x.build_model.num_classes = 3"
)
LARGE = (
    "Experiment.global_batch_size = 20 is more than the 19 images of split train: each "
    "step would take some of them more than once; bind "
    "experiment.Experiment.global_batch_size = 16"
)


@pytest.mark.parametrize(
    ("info", "outputs", "intended", "line"),
    [
        (data((40,), (10,), ("cat",)), 1, ["one_class"], ONE_CLASS),
        (data(), 1000, ["spare_outputs"], SPARE),
        (data(train=19), 3, ["large_batch"], LARGE),
        (
            data(train=19),
            1000,
            ["large_batch", "spare_outputs"],
            f"{SPARE}; and {LARGE}",
        ),
    ],
)
def test_refused_unless_intended(info, outputs, intended, line):
    with pytest.raises(UserError) as refused:
        counts.refuse(tiny(), info, outputs)
    binding = f'--gin_param="{E}.intended = {intended}"'
    assert str(refused.value) == f"{line}. If it is meant: {binding}"
    counts.refuse(tiny(intended=intended), info, outputs)


def test_the_binding_keeps_what_is_intended_already():
    with pytest.raises(UserError, match=r"'large_batch', 'one_class', 'spare_out"):
        counts.refuse(tiny(intended=["spare_outputs", "one_class"]), data(19), 1000)


def test_what_is_usual_is_not_refused():
    counts.refuse(tiny(), data(train=20), 3)
    unseen = dataclasses.replace(data(), label_names=())  # as preflight has them
    counts.refuse(tiny(), unseen, 1000)


def said(experiment, info, outputs=3, *, has_begun=False, with_evaluation=True):
    flags = {"has_begun": has_begun, "with_evaluation": with_evaluation}
    return list(counts.remarks(experiment, info, outputs, **flags))


@pytest.mark.parametrize(
    ("info", "lines"),
    [
        (data(), []),
        (data(100, 30), []),
        (
            data(validation=(1, 0, 1)),
            [
                "validation has no image of 1 of the 3 classes, "
                "which are not scored: 'dog'"
            ],
        ),
        (
            data(train=(0, 90, 10)),
            ["train has no image of 1 of the 3 classes, which cannot be learnt: 'cat'"],
        ),
    ],
)
def test_classes_without_images(info, lines):
    assert said(tiny(), info) == [f"split {line}" for line in lines]


def test_validation_of_one_class_alone():
    assert said(tiny(), data(validation=(0, 1200, 0))) == [
        "the 1,200 images of split validation are of one class alone, 'dog'; 2 other "
        "classes are not scored"
    ]
    assert said(tiny(), data(validation=(0, 9, 0)), with_evaluation=False) == []


def test_many_names_are_cut():
    names = tuple("abcdefghij")
    info = data((0,) * 6 + (9,) * 4, 5, names)
    assert said(tiny(epochs=1000.0), info) == [
        "split train has no image of 6 of the 10 classes, which cannot be learnt: "
        "'a', 'b', 'c' and 3 more"
    ]


def test_a_run_that_has_begun_is_not_refused():
    assert said(tiny(), data(), 1000, has_begun=True) == [SPARE]
    assert said(tiny(intended=["spare_outputs"]), data(), 1000, has_begun=True) == []
