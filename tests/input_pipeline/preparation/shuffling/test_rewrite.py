"""TFRecords that --shuffle has written anew."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import dataset, dataset_info, prepare, records
from input_pipeline.errors import DataError
from input_pipeline.preparation import shard_writer, tfrecords
from input_pipeline.preparation.shuffling import batch_classes, rewrite
from tests.input_pipeline.images import digests
from tests.input_pipeline.preparation import foreign_records
from tests.support import folders

CLASSES = 20


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch):
    """Of four chunks, so that few records are many."""
    monkeypatch.setattr(batch_classes, "SHUFFLE_BUFFER", 64)
    monkeypatch.setattr(batch_classes, "BATCH", 32)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Sorted: 16 records of each of so many classes, labels from 0, in two files."""
    folder = tmp_path_factory.mktemp("sorted")
    sorted_records = [
        foreign_records.example(
            {
                "img": foreign_records.JPEGS[n % 8],
                "target": n // 16,
                "id": b"%d" % n,
                "note": [0.5, n * 1.0],
            }
        )
        for n in range(16 * CLASSES)
    ]
    files = {
        "train-00000-of-00003": sorted_records[:200],
        "train-00001-of-00003": sorted_records[200:300],
        "train-00002-of-00003": sorted_records[300:],
        "validation-00000-of-00001": sorted_records[:40],
    }
    foreign_records.write(folder, files)
    return folder


def command(source, output) -> list[str]:
    flags = ["--shuffle", "--label_offset=0", "--workers=1"]
    return ["tfrecords", f"--source={source}", f"--output={output}", *flags]


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed") / "out"
    assert prepare.main(command(source, folder)) == 0
    return folder


def contents(folder, split: str) -> list[bytes]:
    info = dataset_info.load_info(str(folder))
    paths = [records.shard_path(str(folder), s) for s in info.split(split).shards]
    return [*map(bytes, tf.data.TFRecordDataset(paths).as_numpy_iterator())]


def labels(folder) -> list[np.ndarray]:
    source = tfrecords.Source(str(folder), label_offset=0)
    found = tfrecords.examine(tfrecords.open_source(source), workers=1)
    return [one.labels for one in found.surveys["train"]]


def test_the_same_records_in_another_order(source, written):
    for split, files in [("train", 3), ("validation", 1)]:
        names = sorted(source.glob(f"{split}-*"))
        before = [
            *map(bytes, tf.data.TFRecordDataset([*map(str, names)]).as_numpy_iterator())
        ]
        after = contents(written, split)
        assert sorted(after) == sorted(before)
        assert after != before
        assert len(list(written.glob(f"{split}-*"))) == files
    assert batch_classes.of_split(labels(source)).is_sorted
    found = batch_classes.of_split(labels(written))
    # By chance alone: sqrt(20 classes * 1/4) / sqrt(5 buffers) = 1.
    assert abs(found.seen - found.ideal) < 4
    assert not found.is_sorted


def test_the_description_is_of_the_new_files(written):
    info = dataset_info.load_info(str(written))
    assert (info.label_offset, info.label_names[3]) == (0, "3")
    assert info.fields == records.Fields("img", "target", "id")
    assert info.records_dir == ""
    train = info.split("train")
    assert train.images == (16,) * CLASSES
    assert [shard.records for shard in train.shards] == [106, 107, 107]
    for shard in train.shards:
        assert records.index_shard(records.shard_path(str(written), shard)) == shard


def test_evaluation_reads_it(written):
    (batch,) = dataset.eval_dataset(
        data_dir=str(written), resolution=16, batch_size=40
    ).as_numpy_iterator()
    assert sorted(batch["label"].tolist()) == [n // 16 for n in range(40)]


def test_the_order_is_of_the_records_alone(source, written, tmp_path):
    """Not of the files in which they lie."""
    train = [
        *map(
            bytes,
            tf.data.TFRecordDataset(
                [str(path) for path in sorted(source.glob("train-*"))]
            ).as_numpy_iterator(),
        )
    ]
    files = {f"train-0000{i}-of-00003": train[i::3] for i in range(3)}
    foreign_records.write(tmp_path / "other", files)
    assert prepare.main(command(tmp_path / "other", tmp_path / "out")) == 0
    assert contents(tmp_path / "out", "train") == contents(written, "train")


class Killed(BaseException):
    """As a kill: nothing is tidied up."""


def test_what_was_killed_is_finished(source, written, tmp_path, monkeypatch):
    complete, done = shard_writer.complete, []

    def killed_in_the_second(task, advance):
        if not done:
            done.append(complete(task, advance))
            return done[0]
        with open(f"{task.path}.part-{'0' * 32}", "wb") as file:
            file.write(task.source.record(task.items[0]))
        raise Killed

    monkeypatch.setattr(shard_writer, "complete", killed_in_the_second)
    with pytest.raises(Killed):
        prepare.main(command(source, tmp_path))
    monkeypatch.undo()
    assert not (tmp_path / dataset_info.INFO_FILENAME).exists()
    first = (tmp_path / "train-00000-of-00003").stat().st_mtime_ns
    assert prepare.main(command(source, tmp_path)) == 0
    assert digests(tmp_path) == digests(written)
    assert (tmp_path / "train-00000-of-00003").stat().st_mtime_ns == first


def test_a_second_run_changes_nothing(source, written, capsys):
    before = folders.content(written)
    assert prepare.main(command(source, written)) == 0
    said = f"{written} holds the whole dataset already: nothing to do\n"
    assert capsys.readouterr().out.startswith(said)
    assert folders.content(written) == before


def test_a_record_that_changes_meanwhile_is_refused(source, tmp_path, monkeypatch):
    read = records.read_record
    monkeypatch.setattr(records, "read_record", lambda *args: read(*args)[:-1] + b"?")
    said = r"the record at byte \d+ has changed since it was looked at: let nobody"
    with pytest.raises(DataError, match=f"{source}/train-0000.-of-00003, {said}"):
        rewrite.shuffle(
            tfrecords.Source(str(source), label_offset=0),
            str(tmp_path / "out"),
            workers=1,
        )
    assert not list((tmp_path / "out").glob("train-*"))


@pytest.mark.parametrize("output", [".", "", "below/deeper"])
def test_it_leaves_the_records_alone(source, output, capsys):
    before = folders.content(source)
    flags = [f"--output={source}/{output}"] if output else []
    arguments = [one for one in command(source, "") if "output" not in one]
    assert prepare.main([*arguments, *flags]) == 2
    said = "choose a folder outside" if output else "name a folder for them, --output"
    assert said in capsys.readouterr().err
    assert folders.content(source) == before


def test_sorted_records_are_noticed(source, tmp_path, capsys):
    arguments = [one for one in command(source, tmp_path) if one != "--shuffle"]
    assert prepare.main(arguments) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "sorted" in line]
    (line,) = said
    assert line.startswith("note: train is sorted by class, more or less: a batch of ")
    assert " of 20 classes (of a shuffled order: 16)" in line
    assert line.endswith(
        "--shuffle --output=OUT writes the records anew in a mixed order"
    )


def test_what_is_odd_is_said_of_shuffled_records_too(tmp_path, capsys):
    sorted_records = [
        foreign_records.example(
            {"image": foreign_records.JPEGS[n % 8] if n else b"none", "label": n // 80}
        )
        for n in range(160)
    ]
    foreign_records.write(tmp_path / "in", {"train-00000-of-00001": sorted_records})
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    beside = [f"--source={tmp_path}/in", f"--labels={tmp_path}/names.txt"]
    flags = ["--label_offset=0", "--workers=1"]
    assert prepare.main(["tfrecords", *beside, *flags]) == 0
    capsys.readouterr()
    assert prepare.main(command(tmp_path / "in", tmp_path / "out")) == 0
    said = capsys.readouterr()
    assert "note: 1 image of 160 cannot be trained on" in said.out + said.err
    assert "calls its classes cat, dog, where the records are of 0, 1" in (
        said.out + said.err
    )
    assert "is sorted by class" not in said.out + said.err
