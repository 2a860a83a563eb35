"""What is said of data that are not a run's any more, word for word."""

import dataclasses
import functools
import re
import threading
import types
from typing import Any

import pytest

from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo, ShardInfo, SplitInfo
from train import run_data
from train.experiment import Experiment
from train.settings import data_changes

RUN = "runs/pets"


def split(images, *, of="a", sizes="a") -> SplitInfo:
    """A split of one shard; `of` stands for its records, `sizes` for their sizes."""
    digest = (of * 32)[:32] if of else ""
    count = images if isinstance(images, int) else sum(images)
    offsets = tuple(range(0, -(-count // 16) * ord(sizes), ord(sizes)))
    counts = None if isinstance(images, int) else tuple(images)
    return SplitInfo((ShardInfo("train-0", count, offsets, digest),), counts)


def find(
    names=("no", "yes"),
    train=None,
    validation=None,
    *,
    outputs: int | None = 2,
    where="data",
    **of,
):
    """The data that an experiment finds, and the experiment."""
    splits = {
        "train": split((19, 19)) if train is None else train,
        "validation": split((5, 5)) if validation is None else validation,
    }
    experiment = types.SimpleNamespace(
        train_split="train",
        eval_split="validation",
        data_dir=where,
        epochs=3,
        global_batch_size=8,
        build_model=functools.partial(dict, num_classes=outputs),
    )
    of_images: Any = Experiment.steps_of
    experiment.steps_of = functools.partial(of_images, experiment)
    info = DatasetInfo(
        "pets", **{"label_offset": 0, **of}, label_names=names, splits=splits
    )
    return run_data.find(experiment, info), experiment  # type: ignore[arg-type]


def compare(was, now, accept=None):
    data, experiment = now
    return data_changes.compare(was and was[0], data, experiment, RUN, accept)


GROWN = find(("yes", "zero"), split((24, 18), of="b"), split((6, 4), of="b"))
CHANGES = {
    "swapped and renamed, and grown": (
        GROWN,
        "2 classes swapped and renamed: 0 'no' -> 'yes', 1 'yes' -> 'zero'; training "
        "images: 38 -> 42 (yes: 19 -> 24); evaluation images of a class: yes: 5 -> 6; "
        "38 images, 14 steps -> 42 images, 15 steps",
    ),
    "swapped": (
        find(("yes", "no"), split((19, 19), of="b")),
        "2 classes swapped: 0 'no' -> 'yes', 1 'yes' -> 'no'; training images: as "
        "many, but others, or in another order",
    ),
    "renamed by hand": (
        find(("zero", "yes")),
        "1 class renamed: 0 'zero' was 'no'; the records are the same, so the weights "
        "keep their meaning",
    ),
    "renamed and prepared again": (
        find(("zero", "yes"), split((19, 19), of="b"), split((5, 5), of="b")),
        "1 class renamed: 0 'zero' was 'no'; training images: as many, but others, or "
        "in another order; evaluation images: as many, but others, or in another order",
    ),
    "added": (
        find(("maybe", "no", "yes"), split((4, 19, 19), of="b"), outputs=3),
        "2 classes -> 3 classes; 1 class added: 'maybe'; 2 classes moved: 'no' 0 -> 1, "
        "'yes' 1 -> 2; training images: 38 -> 42 (maybe: 0 -> 4); 38 images, 14 steps "
        "-> 42 images, 15 steps",
    ),
    "removed": (
        find(("yes",), split((19,), of="b"), split((5,), of="b")),
        "2 classes -> 1 class; 1 class removed: 'no'; 1 class moved: 'yes' 1 -> 0; "
        "training images: 38 -> 19 (no: 19 -> 0); evaluation images: 10 -> 5 (no: 5 -> "
        "0); 38 images, 14 steps -> 19 images, 7 steps",
    ),
    "other images": (
        find(train=split((19, 19), of="b")),
        "training images: as many, but others, or in another order",
    ),
    "other evaluation": (
        find(validation=split((5, 5), of="b")),
        "evaluation images: as many, but others, or in another order",
    ),
    "other sizes, no digest": (
        find(train=split(38, of="", sizes="b")),
        "training images: as many, but other files, or sizes of records",
    ),
    "other labels": (
        find(label_offset=1),
        "the first class has the label 1, and had 0",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_other_data_are_refused_until_they_are_accepted(case, capsys):
    was, (now, what) = find(where="old"), CHANGES[case]
    said = (
        f"data does not hold the data of {RUN} any more: {what}. %sTake another "
        "--model_dir to begin anew with them; put the old data back (they lay in old); "
        f"or --accept_data={now[0].accepted_by} to go on with these"
    )
    with pytest.raises(UserError) as refused:
        compare(was, now)
    assert str(refused.value) == said % ""
    with pytest.raises(UserError) as refused:
        compare(was, now, accept="0" * 12)
    wrong = "--accept_data=000000000000 means other data than these. "
    assert str(refused.value) == said % wrong
    with pytest.raises(UserError, match="What follows a run scores its own data"):
        data_changes.refuse_others(was[0], now[0], RUN)
    assert capsys.readouterr().err == ""
    known = compare(was, now, accept=now[0].accepted_by)
    assert known == data_changes.Known(now[0], what)
    assert capsys.readouterr().err == (
        f"warning: {RUN} goes on with other data: {what}\n"
    )
    assert compare((known.data, None), now) == data_changes.Known(now[0])


def test_other_splits_are_taken_back_by_settings():
    """The data are there as they were: nobody is to look for them."""
    was, experiment = find()
    images = dataclasses.replace(was.training, split="train[:1shard]", digest="c" * 32)
    now = dataclasses.replace(was, evaluation=images)
    what = "evaluation split: 'validation' -> 'train[:1shard]'; evaluation images: 10"
    back = r"set Experiment\.eval_split = 'validation' again"
    said = rf"{RUN} has had other splits: {re.escape(what)} -> 38 .*{back}"
    with pytest.raises(UserError, match=rf"{said}; or --accept_data={now.accepted_by}"):
        compare((was, None), (now, experiment))
    with pytest.raises(UserError, match=rf"{said}, or ask by --mode=eval"):
        data_changes.refuse_others(was, now, RUN)
    renamed = dataclasses.replace(now, label_names=("no", "ja"))
    with pytest.raises(UserError, match=r"any more: .*put the old data back"):
        compare((was, None), (renamed, experiment))


def test_what_is_accepted_is_nothing_else():
    """Each of these data, and each part of them, has a number of its own."""
    numbers = [now[0].accepted_by for now, _ in CHANGES.values()]
    assert len({*numbers, find()[0].accepted_by}) == len(CHANGES) + 1


def test_more_classes_than_outputs_are_never_accepted():
    now = find(("maybe", "no", "yes"), split((4, 19, 19), of="b"))
    with pytest.raises(UserError) as refused:
        compare(find(where="old"), now, accept=now[0].accepted_by)
    assert str(refused.value).endswith(
        "The network has 2 outputs, so it cannot go on with them: take another "
        "--model_dir, with Experiment.pretrained = 'runs/pets' and Experiment.new_head "
        "= True to begin from its weights; put the old data back (they lay in old)"
    )


@pytest.mark.parametrize("names", [("yes",), ("maybe", "no", "yes")])
def test_outputs_that_are_counted_fit_no_other_number_of_classes(names):
    sizes = (19, 19, 4)[: len(names)]
    now = find(names, split(sizes, of="b"), split(sizes), outputs=None)
    with pytest.raises(UserError, match="The network has 2 outputs, so it cannot go"):
        compare(find(outputs=None, where="old"), now, accept=now[0].accepted_by)


def test_the_same_data_elsewhere_go_on_without_a_word(capsys):
    now = find(where="/mnt/elsewhere")
    assert compare(find(), now) == data_changes.Known(now[0])
    alone = dataclasses.replace(now[0], evaluation=None)  # of who trains alone
    known = compare((alone, None), now)
    assert known == data_changes.Known(now[0])
    kept = compare(now, (alone, now[1]))
    assert kept == data_changes.Known(now[0])
    assert capsys.readouterr().err == ""


def test_what_has_no_digest_goes_on_with_a_line(capsys):
    """Or no data.json; and nothing is forgotten that the run knew."""
    old, new = find(train=split(38, of=""), validation=split(10, of="")), find()
    said = [
        (
            *(None, new),
            f"{RUN} has no data.json, as runs of earlier versions: whether its data "
            "are those in data nobody can tell; from now on they are compared",
            new,
        ),
        (
            *(old, new),
            "the images in data were not compared with those that the run began "
            "with, only their numbers and sizes: they had no digest then",
            new,
        ),
        (
            *(new, old),
            "data has no digest: its images are not compared, only their numbers and "
            "sizes; the python -m input_pipeline.prepare that has made it adds one",
            new,
        ),
        (
            *(old, old),
            "data has no digest: its images are not compared, only their numbers and "
            "sizes; the python -m input_pipeline.prepare that has made it adds one",
            old,
        ),
    ]
    for was, now, line, known in said:
        assert compare(was, now) == data_changes.Known(known[0])
        assert capsys.readouterr().err == f"warning: {line}\n"


def test_other_classes_are_not_scored(capsys):
    was = find()[0]
    same = dataclasses.replace(was.info(), name="others", label_offset=1)
    data_changes.refuse_other_classes(was, same, RUN)  # of other images, say
    assert capsys.readouterr().err == ""
    data_changes.refuse_other_classes(None, same, RUN)
    assert capsys.readouterr().err == (
        f"warning: {RUN} has no data.json, as runs of earlier versions: whether others "
        "has the classes that it has learnt nobody can tell\n"
    )
    for names, what in (
        (
            ("yes", "zero"),
            "2 classes swapped and renamed: 0 'no' -> 'yes', 1 'yes' -> 'zero'",
        ),
        (("no", "yes", "zero"), "2 classes -> 3 classes; 1 class added: 'zero'"),
    ):
        other = dataclasses.replace(same, label_names=names)
        with pytest.raises(UserError) as refused:
            data_changes.refuse_other_classes(was, other, RUN)
        assert str(refused.value) == (
            f"others has other classes than {RUN} has learnt: {what}. An output of "
            "its network would be taken for another class: name data with the same "
            "names in the same order"
        )


class Together:
    """Processes of a run that add up their numbers, each in a thread of its own."""

    def __init__(self, count):
        self.count = count
        self._barrier = threading.Barrier(count, timeout=60)
        self._told = {}

    def agree(self, data):
        """Return what becomes of each process that has such data."""
        said = ["not ended"] * self.count

        def process(number):
            try:
                member: Any = Member(self, number)
                data_changes.agree(data[number], member)
                said[number] = ""
            except UserError as error:
                said[number] = str(error)

        threads = [
            threading.Thread(target=process, args=[n]) for n in range(self.count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return said

    def add(self, number, values):
        self._told[number] = values
        self._barrier.wait()
        sums = [sum(column) for column in zip(*self._told.values(), strict=True)]
        self._barrier.wait()
        return sums


class Member:
    def __init__(self, together, number):
        self.number, self.count, self.is_chief = number, together.count, number == 0
        self._together = together

    def sum_over_processes(self, values):
        assert all(0 <= value < 2**31 for value in values)  # else replicas overflow
        return self._together.add(self.number, values)


def test_processes_with_other_data_end_together():
    chief, same = find()[0], find(where="/mnt/data")[0]
    old = find(train=split(38, of=""), validation=split(10, of=""))[0]
    assert Together(3).agree([chief, same, old]) == [""] * 3
    assert Together(2).agree([old, chief]) == [""] * 2
    others = find(train=split((19, 19), of="b"), where="/mnt/data")[0]
    said = (
        "%s of the run found other data than the chief, process 0. In %s process %d "
        "has 2 classes, 38 images of 'train'%s, 10 images of 'validation'%s: copy the "
        "same prepared folder to every machine"
    )
    a, b, c = (
        f" (digest {one.digest[:12]})"
        for one in (chief.training, others.training, chief.evaluation)
        if one
    )
    assert Together(3).agree([chief, others, same]) == [
        said % ("process 1", "data", 0, a, c),
        said % ("process 1", "/mnt/data", 1, b, c),
        said % ("process 1", "/mnt/data", 2, a, c),
    ]
    # Without digests nobody can tell; but sizes can.
    assert Together(3).agree([old, same, others]) == [""] * 3
    longer = find(train=split(38, of="", sizes="b"))[0]
    assert Together(3).agree([old, longer, longer]) == [
        said % ("processes 1, 2", "data", n, "", "" if n == 0 else c) for n in range(3)
    ]
