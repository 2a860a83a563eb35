"""How the data of a run differ from others, in words."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from common.checks import shown
from common.console import count, named
from train.run_data import RunData, SplitData


def differences(was: RunData, now: RunData) -> list[str]:
    """Return how data differ from those of a run, a line each; none where they do not.

    What only one of both knows, such as a digest, is no difference. Nor is a place, or
    the name of the dataset, which follows from it; nor an evaluation split that only
    one of both has.
    """
    found = other_classes(was.label_names, now.label_names)
    if was.label_offset != now.label_offset:
        found.append(
            f"the first class has the label {now.label_offset}, and had "
            f"{was.label_offset}"
        )
    old, new = dataclasses.asdict(was.fields), dataclasses.asdict(now.fields)
    found += [
        f"field {key}: {old[key]!r} -> {new[key]!r}"
        for key in old
        if old[key] != new[key]
    ]
    found += _split("training", was.training, now.training, was, now)
    if was.evaluation and now.evaluation:
        found += _split("evaluation", was.evaluation, now.evaluation, was, now)
    return found


def other_classes(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Return how the classes differ, in at most three lines."""
    if len(old) != len(new):
        return _classes_added(old, new)
    changed = [
        n for n, pair in enumerate(zip(old, new, strict=True)) if len({*pair}) > 1
    ]
    if not changed:
        return []
    before, after = [old[n] for n in changed], [new[n] for n in changed]
    if not set(before) & set(after):
        pairs = (f"{n} {shown(new[n])} was {shown(old[n])}" for n in changed)
        return [f"{_count(changed, 'renamed')}: {named(pairs)}"]
    what = "swapped" if sorted(before) == sorted(after) else "swapped and renamed"
    pairs = (f"{n} {shown(old[n])} -> {shown(new[n])}" for n in changed)
    return [f"{_count(changed, what)}: {named(pairs)}"]


def _classes_added(old: Sequence[str], new: Sequence[str]) -> list[str]:
    found = [" -> ".join(count(len(one), "class", "classes") for one in (old, new))]
    for what, names in (
        ("added", list((Counter(new) - Counter(old)).elements())),
        ("removed", list((Counter(old) - Counter(new)).elements())),
    ):
        if names:
            found.append(f"{_count(names, what)}: {named(map(shown, names))}")
    moved = [name for name in old if name in new and old.index(name) != new.index(name)]
    if moved:
        pairs = (f"{shown(one)} {old.index(one)} -> {new.index(one)}" for one in moved)
        found.append(f"{_count(moved, 'moved')}: {named(pairs)}")
    return found


def _count(changed: Sequence[object], what: str) -> str:
    return f"{count(len(changed), 'class', 'classes')} {what}"


def _split(
    what: str, old: SplitData, new: SplitData, was: RunData, now: RunData
) -> list[str]:
    """Return how a split differs from what a run knows of it."""
    if old.digest == new.digest != "":
        return []
    found = []
    if old.split != new.split:
        found.append(f"{what} split: {old.split!r} -> {new.split!r}")
    classes = _class_counts(old, new, was, now)
    if old.images != new.images:
        found.append(
            f"{what} images: {old.images:,} -> {new.images:,}"
            + (f" ({classes})" if classes else "")
        )
    elif classes:
        found.append(f"{what} images of a class: {classes}")
    elif old.digest and new.digest:
        found.append(f"{what} images: as many, but others, or in another order")
    elif old.layout != new.layout:
        found.append(f"{what} images: as many, but other files, or sizes of records")
    return found


def _class_counts(old: SplitData, new: SplitData, was: RunData, now: RunData) -> str:
    """Return how many images there are of which class, where that is known and new.

    Of a class that was renamed nothing is said: which it was, nobody can count.
    """
    if old.of_classes is None or new.of_classes is None:
        return ""
    before = _by_name(was.label_names, old.of_classes)
    after = _by_name(now.label_names, new.of_classes)
    renamed = len(was.label_names) == len(now.label_names)
    names = [
        n
        for n in [*before, *(after.keys() - before)]
        if not renamed or (n in before and n in after)
    ]
    changed = [
        f"{name}: {before.get(name, 0):,} -> {after.get(name, 0):,}"
        for name in names
        if before.get(name, 0) != after.get(name, 0)
    ]
    return named(changed)


def _by_name(names: Sequence[str], counts: Sequence[int]) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for name, images in zip(names, counts, strict=True):
        found[name] += images
    return found
