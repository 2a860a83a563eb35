"""Images that are read and decoded a few at a time, and are named one by one."""

import dataclasses
from collections.abc import Sequence

import pytest

from input_pipeline.errors import DataError
from input_pipeline.preparation import shard_writer
from input_pipeline.preparation.jpeg import BadImageError, to_rgb_jpeg, to_rgb_jpegs
from input_pipeline.preparation.plan import Class, Item
from input_pipeline.preparation.shard_writer import Task
from tests.input_pipeline.images import encoded


@dataclasses.dataclass(frozen=True)
class Files:
    """Files in memory, some of which cannot be read."""

    contents: Sequence[bytes | Exception]
    read_before: list[int] = dataclasses.field(default_factory=list)

    def read(self, item: Item) -> bytes:
        self.read_before.append(item.offset)
        content = self.contents[item.offset]
        if isinstance(content, Exception):
            raise content
        return content

    def convert(self, files):
        return to_rgb_jpegs(files)

    def load(self, item: Item):
        return to_rgb_jpeg(self.read(item))

    def describe(self, item: Item) -> str:
        return item.filename


@dataclasses.dataclass(frozen=True)
class Loaded:
    """The same, in no files that could be read: each is loaded alone."""

    files: Files

    def load(self, item: Item):
        return self.files.load(item)

    def describe(self, item: Item) -> str:
        return item.filename


def task(path, contents, *, skip: bool, alone: bool = False) -> Task:
    items = [Item(f"{n}.jpg", 0, n, 1000) for n in range(len(contents))]
    source = Files(contents)
    return Task(
        str(path), Loaded(source) if alone else source, items, (Class("a", "a"),), skip
    )


def counted(task: Task) -> tuple[shard_writer.Done, list[int]]:
    counts = []
    return shard_writer.complete(task, counts.append), counts


SOUND = [encoded(n) for n in range(21)]


def with_changes(changes: dict[int, bytes | Exception]) -> list[bytes | Exception]:
    return [changes.get(n, sound) for n, sound in enumerate(SOUND)]


def test_the_records_are_those_of_images_that_are_loaded_alone(tmp_path):
    contents = with_changes(
        {
            3: b"",
            4: SOUND[4][:-300],
            8: encoded(8, "PNG"),
            15: BadImageError("has 9 bytes, too many"),
            16: encoded(16, mode="L"),
        }
    )
    found = [
        counted(task(tmp_path / name, contents, skip=True, alone=alone))
        for name, alone in (("a", False), ("b", True))
    ]
    (done, counts), (alone, _) = found
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert done.skipped == alone.skipped
    assert [one.why for one in done.skipped] == [
        "3.jpg is empty",
        "4.jpg is damaged or cut off",
        "15.jpg has 9 bytes, too many",
    ]
    assert (done.shard.records, done.is_new, counts) == (18, True, [1] * 21)


def test_the_first_fault_is_the_one_that_is_named(tmp_path):
    gone = DataError("cannot read 5.jpg: No such file or directory")
    faults = {3: SOUND[3][:-300], 5: gone}
    stopped = task(tmp_path / "a", with_changes(faults), skip=False)
    with pytest.raises(DataError, match=r"3\.jpg is damaged or cut off: start"):
        counted(stopped)
    skipping = task(tmp_path / "a", with_changes(faults), skip=True)
    with pytest.raises(DataError, match=r"cannot read 5\.jpg"):
        counted(skipping)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([9] * 8, [8]),
        ([9] * 17, [8, 8, 1]),
        ([4 << 20, 9, 9], [1, 2]),
        ([9, 9, 5 << 20, 9], [2, 1, 1]),
        ([1 << 20] * 9, [4, 4, 1]),
        ([2 << 30, 1 << 30], [1, 1]),
    ],
)
def test_large_images_are_in_memory_alone(sizes, groups):
    items = [Item(f"{n}.jpg", 0, n, size) for n, size in enumerate(sizes)]
    found = [*shard_writer._groups(items)]
    assert [len(group) for group in found] == groups
    assert [item for group in found for item in group] == items


def test_no_more_is_read_than_is_needed_to_compare_the_begin(tmp_path):
    source = Files(SOUND)
    begun = task(tmp_path / "a", SOUND, skip=False)
    (tmp_path / "a").write_bytes(b"another file, which stays")
    with pytest.raises(DataError, match="is not what is to be written there"):
        counted(dataclasses.replace(begun, source=source))
    assert source.read_before == [*range(8)]
