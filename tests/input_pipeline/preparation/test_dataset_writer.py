import dataclasses
import errno
import json
import os
from pathlib import Path

import pytest
import tensorflow as tf

from common import claims
from common.claims import Held, disk, holder
from input_pipeline import dataset_info, prepare, records
from input_pipeline.errors import DataError
from input_pipeline.preparation import dataset_writer, description
from input_pipeline.preparation.description import Described
from input_pipeline.preparation.image_folders import imagefolder
from tests.input_pipeline.builders import change_a_record, forget_identity
from tests.input_pipeline.images import digests, encoded, touch_latin1, write_files
from tests.support.folders import content

SHARDS = [f"train-{i:05d}-of-00003" for i in range(3)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two classes of six images."""
    files = {f"{n}/{i}.jpg": encoded(i) for n in "ab" for i in range(6)}
    return write_files(tmp_path_factory.mktemp("source"), files)


@pytest.fixture
def plan(source):
    return imagefolder.plan(str(source), shards=3)[0]


def write(plan, output, **options) -> dataset_writer.Outcome:
    return dataset_writer.write(
        plan, str(output), workers=1, skip_bad_images=False, **options
    )


def test_a_second_run_changes_nothing(plan, tmp_path):
    first = write(plan, tmp_path)
    assert (first.written, first.kept) == (3, 0)
    assert sorted(digests(tmp_path)) == [
        "dataset_info.json",
        "prepare_plan.json",
        *SHARDS,
    ]
    for shard in first.info.splits["train"].shards:
        assert records.index_shard(records.shard_path(str(tmp_path), shard)) == shard
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = write(plan, tmp_path)
    assert (second.written, second.kept, second.info) == (0, 3, first.info)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_file_there_whose_name_is_not_utf8_stays(plan, tmp_path):
    touch_latin1(tmp_path, "notes-\xe9t\xe9.txt")
    assert [(w.written, w.kept) for w in (write(plan, tmp_path) for _ in "12")] == [
        (3, 0),
        (0, 3),
    ]
    there = dataset_writer.begun_plan(str(tmp_path))
    assert there == json.loads((tmp_path / "prepare_plan.json").read_text())
    assert b"notes-\xe9t\xe9.txt" in os.listdir(os.fsencode(tmp_path))


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage_the_first(path):
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)


def cut_to(size):
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def as_link(path):
    """To a damaged one; a link is replaced and not followed."""
    cut(path)
    path.rename(path.with_name("kept"))
    path.symlink_to("kept")


def contents(path):
    return [*map(bytes, tf.data.TFRecordDataset(str(path)).as_numpy_iterator())]


def with_records(change):
    return lambda path: records.write_shard(str(path), change(contents(path)))


def nameless(content):
    example = tf.train.Example.FromString(content)
    del example.features.feature["image/filename"]
    return example.SerializeToString()


def clean_and_cut(path):
    """A person has left out the second record; the disk, what follows the third."""
    with_records(lambda found: [found[0], *found[2:]])(path)
    cut(path)


FOREIGN = [
    with_records(lambda found: found[:1]),
    with_records(lambda found: found[1:]),
    with_records(lambda found: found[::-1]),
    with_records(lambda found: [*found, found[0]]),
    with_records(lambda found: [nameless(found[0]), *found[1:]]),
    with_records(lambda found: [b"\xff\xff no Example", *found[1:]]),
    lambda path: path.write_bytes(path.with_name(SHARDS[2]).read_bytes()),
    clean_and_cut,
    lambda path: path.write_text("some notes of mine, not a TFRecord at all"),
    lambda path: path.write_bytes(b"mine"),
    lambda path: path.write_bytes(bytes(99)),
    cut_to(7),
]


@pytest.mark.parametrize("spoil", FOREIGN)
@pytest.mark.parametrize("options", [{}, {"overwrite_info": True}])
def test_what_is_not_the_plans_stays(plan, tmp_path, spoil, options):
    """Cleaned data, say: somebody may have changed the file, or put it there."""
    write(plan, tmp_path)
    spoil(tmp_path / SHARDS[1])
    before = content(tmp_path)
    with pytest.raises(DataError) as refused:
        write(plan, tmp_path, **options)
    assert str(refused.value) == (
        f"{tmp_path}/{SHARDS[1]} is there, and is not what is to be written there: "
        "move it away, or choose another folder"
    )
    assert content(tmp_path) == before


def test_what_is_not_the_plans_stays_beside_a_copied_plan(plan, tmp_path):
    write(plan, tmp_path / "a")
    (tmp_path / "b").mkdir()
    plans = [tmp_path / name / dataset_writer.PLAN_FILENAME for name in "ab"]
    plans[1].write_bytes(plans[0].read_bytes())
    (tmp_path / "b" / SHARDS[0]).write_text("mine")
    before = content(tmp_path)
    with pytest.raises(DataError, match=f"{SHARDS[0]} is there, and is not what"):
        write(plan, tmp_path / "b")
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        damage,
        damage_the_first,
        cut,
        cut_to(8),
        cut_to(0),
        as_link,
    ],
)
def test_only_what_is_missing_or_wrong_is_written(plan, tmp_path, spoil):
    write(plan, tmp_path)
    whole = digests(tmp_path)
    spoil(tmp_path / SHARDS[1])
    assert digests(tmp_path) != whole
    kept = (tmp_path / "kept").read_bytes() if (tmp_path / "kept").exists() else b""
    outcome = write(plan, tmp_path)
    assert (outcome.written, outcome.kept) == (1, 2)
    if kept:
        assert (tmp_path / "kept").read_bytes() == kept
        (tmp_path / "kept").unlink()
    assert digests(tmp_path) == whole
    assert not (tmp_path / SHARDS[1]).is_symlink()


def test_a_description_is_compared_before_a_record_is_written(plan, tmp_path):
    write(plan, tmp_path)
    path = tmp_path / dataset_info.INFO_FILENAME
    path.write_text(path.read_text().replace(SHARDS[2], "train-2"))
    for name in SHARDS[:2]:
        (tmp_path / name).unlink()
    before = content(tmp_path)
    with pytest.raises(DataError, match=r"splits: other files, or other places in the"):
        write(plan, tmp_path)
    assert content(tmp_path) == before
    mend(path)
    with pytest.raises(DataError, match=r"says something else .*label_names: 'kitten'"):
        write(plan, tmp_path)
    assert sorted(content(tmp_path)) == sorted(before)
    again = write(plan, tmp_path, overwrite_info=True)
    assert (again.written, again.kept, again.described) == (2, 1, Described.NEW)


@pytest.fixture
def read_only(monkeypatch, tmp_path):
    """A folder that may not be written, for root neither."""
    write_as_before, number = os.open, errno.EROFS

    def refuse(path, flags, *args, **kwargs):
        if flags & os.O_CREAT and Path(path).parent == tmp_path:
            raise OSError(number, os.strerror(number), str(path))
        return write_as_before(path, flags, *args, **kwargs)

    def switch_on(why):
        nonlocal number
        number = why
        monkeypatch.setattr(disk.os, "open", refuse)

    return switch_on


@pytest.mark.parametrize("why", [errno.EROFS, errno.EACCES])
def test_a_finished_dataset_on_a_disk_that_is_read_only(plan, tmp_path, read_only, why):
    first = write(plan, tmp_path)
    before = content(tmp_path)
    read_only(why)
    second = write(plan, tmp_path)
    assert (second.written, second.kept) == (0, 3)
    assert second.described == Described.ALREADY
    assert second.info == first.info
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        (SHARDS[1], os.unlink),
        (SHARDS[1], cut),
        (dataset_info.INFO_FILENAME, os.unlink),
        (dataset_writer.PLAN_FILENAME, os.unlink),
        (
            dataset_info.INFO_FILENAME,
            lambda path: path.write_text(path.read_text().replace('"a"', '"z"')),
        ),
    ],
)
def test_an_unfinished_dataset_on_a_disk_that_is_read_only(
    plan, tmp_path, read_only, name, spoil
):
    write(plan, tmp_path)
    spoil(tmp_path / name)
    before = content(tmp_path)
    read_only(errno.EROFS)
    with pytest.raises(claims.Unwritable) as refused:
        write(plan, tmp_path)
    assert str(refused.value) == (
        f"cannot write {tmp_path}/.claim.json: Read-only file system; mend the "
        "permissions, or name another folder"
    )
    assert content(tmp_path) == before


def test_an_older_description_is_completed(plan, tmp_path):
    """And the records stay."""
    first = write(plan, tmp_path)
    before, times = (
        content(tmp_path),
        {name: (tmp_path / name).stat().st_mtime_ns for name in SHARDS},
    )
    forget_identity(tmp_path)
    second = write(plan, tmp_path)
    assert (second.written, second.kept, second.info) == (0, 3, first.info)
    assert second.described == Described.COMPLETED
    assert content(tmp_path) == before
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in SHARDS} == times
    assert write(plan, tmp_path).described == Described.ALREADY


def test_the_line_on_an_older_description(source, tmp_path, capsys, read_only):
    command = ["imagefolder", f"--source={source}", f"--output={tmp_path}"]
    command += ["--shards=3", "--workers=1", "--validation_fraction=0"]
    assert prepare.main(command) == 0
    for prepare_for, line in [
        (forget_identity, "described anew, the digest was missing"),
        (lambda folder: None, "nothing to do"),
        (
            lambda folder: read_only(errno.EROFS) or forget_identity(folder),
            "nothing to do (dataset_info.json is of an older version and has no "
            "digest, and the folder cannot be written)",
        ),
    ]:
        prepare_for(tmp_path)
        capsys.readouterr()
        assert prepare.main(command) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"{tmp_path} holds the whole dataset already: {line}",
            "train: 2 classes, each of 6 images",
        ]


def test_an_older_description_that_is_mended_stays(plan, tmp_path):
    write(plan, tmp_path)
    forget_identity(tmp_path)
    said = mend(tmp_path / dataset_info.INFO_FILENAME)
    before = content(tmp_path)
    with pytest.raises(DataError, match=said):
        write(plan, tmp_path)
    assert content(tmp_path) == before


def test_an_older_description_on_a_disk_that_is_read_only(plan, tmp_path, read_only):
    first = write(plan, tmp_path)
    forget_identity(tmp_path)
    before = content(tmp_path)
    read_only(errno.EROFS)
    second = write(plan, tmp_path)
    assert (second.written, second.kept, second.info) == (0, 3, first.info)
    assert second.described == Described.INCOMPLETE
    assert content(tmp_path) == before


def test_a_record_that_was_changed_in_place_is_noticed(plan, tmp_path):
    """Its name is the plan's, its length and its CRC are right."""
    write(plan, tmp_path)
    change_a_record(tmp_path / SHARDS[1], 2, b"JFIF", b"JFIE")
    before = content(tmp_path)
    said = rf"\(splits: other records in {SHARDS[1]}\): keep it as it is, or overwrite"
    with pytest.raises(DataError, match=said):
        write(plan, tmp_path)
    assert content(tmp_path) == before
    assert write(plan, tmp_path, overwrite_info=True).described == Described.NEW
    assert write(plan, tmp_path).described == Described.ALREADY


def mend(path):
    path.write_text(path.read_text().replace('"a"', '"kitten"'))
    return r"label_names: 'kitten' -> 'a'\): keep it as it is, or overwrite it with"


def cut_off(path):
    path.write_text("{")
    return r"is not sound: line 1, column 2: Expecting .*; .* --overwrite_info"


def in_utf_16(path):
    path.write_text(path.read_text(), "utf-16")
    return r"is not sound: it is written in UTF-16: .* --overwrite_info"


def in_latin_1(path):
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"\xe4"'))
    return r"is not sound: byte \d+ is no UTF-8: .* --overwrite_info"


@pytest.mark.parametrize("change", [mend, cut_off, in_utf_16, in_latin_1])
def test_a_description_that_a_person_has_changed_stays(plan, tmp_path, change):
    written = write(plan, tmp_path)
    whole = digests(tmp_path)
    said = change(tmp_path / dataset_info.INFO_FILENAME)
    before = content(tmp_path)
    with pytest.raises(DataError, match=rf"^{tmp_path}/dataset_info.json .*{said}"):
        write(plan, tmp_path)
    assert content(tmp_path) == before
    again = write(plan, tmp_path, overwrite_info=True)
    assert (again.written, again.info) == (0, written.info)
    assert again.described == Described.NEW
    assert digests(tmp_path) == whole
    again = write(plan, tmp_path, overwrite_info=True)
    assert again.described == Described.ALREADY


def test_what_would_change_is_told_in_few_words():
    def info(**changes):
        shard = records.ShardInfo("train-0", 20, (0, 99))
        names = tuple(f"c{number}" for number in range(9))
        splits = {"train": dataset_info.SplitInfo((shard,))}
        there = dataset_info.DatasetInfo("there", 1, names, splits)
        return dataclasses.replace(there, **changes)

    shard = records.ShardInfo("train-0", 20, (0, 88))
    one_more = records.ShardInfo("train-1", 1, (0,))
    counted = {"train": dataset_info.SplitInfo(info().splits["train"].shards, (20,))}
    told = [
        description._differences(info(), info(**changes))
        for changes in (
            {"name": "now", "label_offset": 0},
            {"label_names": tuple("abcdefghi")},
            {"label_names": tuple("ab")},
            {"splits": {"train": dataset_info.SplitInfo((shard,))}},
            {"splits": {"train": dataset_info.SplitInfo((shard, one_more))}},
            {"splits": counted},
        )
    ]
    assert told == [
        "name: 'there' -> 'now'; label_offset: 1 -> 0",
        "label_names: 'c0' -> 'a', 'c1' -> 'b', 'c2' -> 'c', and 6 more",
        "label_names: ('c0', 'c1', 'c2', 'c3', 'c4', 'c5', ...) -> ('a', 'b')",
        "splits: other files, or other places in them",
        "splits: 20 train -> 21 train",
        "splits: other numbers of images of a class",
    ]


@pytest.mark.parametrize(
    "name", [SHARDS[1], dataset_writer.PLAN_FILENAME, dataset_info.INFO_FILENAME]
)
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkdir, "folder"),
        (os.mkfifo, "named pipe"),
        (lambda path: os.symlink("/dev/null", path), "device"),
    ],
)
def test_what_is_no_file_is_named(plan, tmp_path, name, make, what):
    """To read a pipe would wait for ever."""
    write(plan, tmp_path)
    path = tmp_path / name
    path.unlink()
    make(path)
    before = content(tmp_path)
    with pytest.raises(DataError) as refused:
        write(plan, tmp_path)
    assert str(refused.value) == (
        f"{path} is a {what}, no file: move it away, or choose another folder"
    )
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", [SHARDS[1], dataset_info.INFO_FILENAME])
@pytest.mark.parametrize("overwrite_info", [False, True])
def test_a_link_whose_disk_is_away_stays(plan, tmp_path, name, overwrite_info):
    write(plan, tmp_path)
    path = tmp_path / name
    path.unlink()
    path.symlink_to("disk/gone")
    before = content(tmp_path)
    with pytest.raises(DataError) as refused:
        write(plan, tmp_path, overwrite_info=overwrite_info)
    assert str(refused.value) == (
        f"{path} is a link to disk/gone, where nothing is: mount its disk, or remove "
        "the link"
    )
    assert content(tmp_path) == before


def test_stale_files_of_killed_runs_are_removed_and_nothing_else(plan, tmp_path):
    tail = f".part-{'0f' * 16}"
    foreign = {f"train-00000-of-00009{tail}", f"{SHARDS[0]}.part-1", f"notes{tail}"}
    (tmp_path / (SHARDS[1] + tail)).symlink_to("nowhere")
    (tmp_path / (SHARDS[2] + tail)).mkdir()
    for name in [SHARDS[0] + tail, dataset_info.INFO_FILENAME + tail, *foreign]:
        (tmp_path / name).write_bytes(b"half")
    write(plan, tmp_path)
    foreign |= {SHARDS[1] + tail, SHARDS[2] + tail}
    assert {name for name in content(tmp_path) if ".part-" in name} == foreign


def test_a_second_writer_is_refused(plan, tmp_path, monkeypatch):
    """Which else would take the files under way for those of a dead process."""
    monkeypatch.setattr(holder, "PATIENCE_SECONDS", 0.1)
    under_way = tmp_path / f"{SHARDS[0]}.part-{'0' * 32}"
    with claims.hold(str(tmp_path), "a prepare"):
        under_way.write_bytes(b"half")
        before = content(tmp_path)
        with pytest.raises(Held, match=f"^{tmp_path} is held by a prepare: process"):
            write(plan, tmp_path)
        assert content(tmp_path) == before
    write(plan, tmp_path)
    assert not under_way.exists()
    assert not (tmp_path / claims.NAME).exists()


def test_files_of_other_records_are_told_from_other_files():
    def told(*shards):
        splits = {"train": dataset_info.SplitInfo(shards)}
        return dataset_info.DatasetInfo("x", 1, ("a", "b"), splits)

    first, second, third = (
        records.ShardInfo(f"train-{i}", 20, (0, 99), str(i) * 32) for i in range(3)
    )
    for now, want in [
        (
            (first, dataclasses.replace(second, digest="f" * 32)),
            "splits: other records in train-1",
        ),
        (
            (
                dataclasses.replace(first, offsets=(0, 98), digest="e" * 32),
                dataclasses.replace(second, digest="f" * 32),
            ),
            "splits: other records in train-0 and 1 more",
        ),
        ((first, third), "splits: other files, or other places in them"),
        (
            (first, dataclasses.replace(second, offsets=(0, 98))),
            "splits: other files, or other places in them",
        ),
    ]:
        assert description._differences(told(first, second), told(*now)) == want


def test_plans_do_not_mix(plan, source, tmp_path):
    write(plan, tmp_path)
    whole = digests(tmp_path)

    def refusal(**options) -> str:
        other, _ = imagefolder.plan(str(source), **options)
        with pytest.raises(DataError, match="choose another folder, or delete it") as e:
            write(other, tmp_path)
        return str(e.value)

    assert "(files: 3 train there, 4 train now)" in refusal(shards=4)
    said = refusal(shards=3, validation_fraction=0.5)
    assert "(images: 12 train there, 6 train + 6 validation now)" in said
    image = source / "a" / "0.jpg"
    content = image.read_bytes()
    image.write_bytes(content + b"\0")
    assert "(names or sizes of its images are others now)" in refusal(shards=3)
    image.write_bytes(content)
    assert digests(tmp_path) == whole
    (tmp_path / dataset_writer.PLAN_FILENAME).write_text("[]x")
    with pytest.raises(DataError, match=r"prepare_plan.json cannot be read: delete"):
        write(plan, tmp_path)


def test_a_plan_by_which_nothing_was_written_gives_way(plan, source, tmp_path):
    (source / "a" / "9.jpg").write_bytes(b"cut off")
    broken, _ = imagefolder.plan(str(source))
    with pytest.raises(DataError, match=r"9\.jpg"):
        write(broken, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [dataset_writer.PLAN_FILENAME]
    (source / "a" / "9.jpg").unlink()
    write(plan, tmp_path)
    assert (tmp_path / "dataset_info.json").exists()


@pytest.mark.parametrize("name", ["dataset_info.json", "validation-00000-of-01024"])
def test_another_dataset_is_not_touched(plan, tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(DataError, match=f"holds another dataset already .{name}.: "):
        write(plan, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_numbers_of_files_that_are_impossible(source, tmp_path):
    for shards in (13, 0):
        other, _ = imagefolder.plan(str(source), shards=shards)
        with pytest.raises(DataError, match=rf"12 train images in {shards} files: cho"):
            write(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_half_file_and_is_gone_on_with(
    plan, tmp_path, tmp_path_factory, monkeypatch
):
    undisturbed = tmp_path_factory.mktemp("undisturbed")

    class Full(tf.io.TFRecordWriter):
        count = 0

        def write(self, record):
            Full.count += 1
            if Full.count == 7:
                raise tf.errors.ResourceExhaustedError(
                    None, None, "x.part-0; No space\nleft"
                )
            super().write(record)

    with monkeypatch.context() as patch:
        patch.setattr(tf.io, "TFRecordWriter", Full)
        with pytest.raises(DataError) as error:
            write(plan, tmp_path)
    assert str(error.value) == (
        f"cannot write {tmp_path}/{SHARDS[1]}: x.part-0; No space left; free some "
        "space or name another folder"
    )
    assert sorted(digests(tmp_path)) == ["prepare_plan.json", SHARDS[0]]
    outcome = write(plan, tmp_path)
    assert (outcome.written, outcome.kept) == (2, 1)
    write(plan, undisturbed)
    assert digests(tmp_path) == digests(undisturbed)
