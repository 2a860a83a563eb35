"""Records, files and classes of a data set that is made up, and hosts that share it."""

import functools
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.support.growth.case import Case, Handle

if TYPE_CHECKING:
    from input_pipeline.dataset_info import DatasetInfo
    from input_pipeline.preparation.plan import Item
    from input_pipeline.validation.inspect_shard import ShardReport

RECORDS = (10_000, 100_000, 1_000_000, 10_000_000)
ITEMS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
CLASSES = (10, 100, 1_000, 10_000, 21_841)
SHARDS = (1, 10, 100, 1_000, 10_000)
HOSTS = (1, 4, 16, 64)
_FILES = 64  # of a data set whose records are counted
_RECORD_BYTES = 110_000
_FEW = 20_000  # records of a data set whose classes or files are counted


def info(
    records: int, *, files: int = _FILES, classes: int = 1000, name: str | None = None
) -> "DatasetInfo":
    """Return the description of a data set that is not there.

    Args:
      records: in all.
      files: of so many records each, but for what is left.
      classes: that there are images of.
      name: of all files, where they are one; None for the usual names.
    """
    from input_pipeline.dataset_info import DatasetInfo, SplitInfo
    from input_pipeline.records import CHUNK_RECORDS, ShardInfo

    ends = [records * number // files for number in range(files + 1)]
    shards = []
    for number, (begin, end) in enumerate(itertools.pairwise(ends)):
        count = end - begin
        step = _RECORD_BYTES * CHUNK_RECORDS
        offsets = tuple(range(0, -(-count // CHUNK_RECORDS) * step, step))
        file = name or f"train-{number:05d}-of-{files:05d}"
        shards.append(ShardInfo(file, count, offsets, "0" * 32))
    names = tuple(f"class {number}" for number in range(classes))
    return DatasetInfo("made-up", 1, names, {"train": SplitInfo(tuple(shards))})


def _description(described: "DatasetInfo", folder: Path) -> Handle:
    """Return what reads a description, and finds all of its files there."""
    from input_pipeline import dataset_info

    for shard in described.splits["train"].shards:
        (folder / shard.filename).touch()
    dataset_info.write_info(described, str(folder))
    return lambda: dataset_info.load_info(str(folder)) and None


def _written(described: "DatasetInfo", folder: Path) -> Handle:
    from input_pipeline import dataset_info

    def handle() -> int:
        dataset_info.write_info(described, str(folder))
        return (folder / dataset_info.INFO_FILENAME).stat().st_size

    return handle


def _first_batch(records: int, folder: Path, *, host: tuple[int, int]) -> Handle:
    """Return what reads the first records behind half an epoch, of one host of some."""
    import tensorflow as tf

    from input_pipeline import stream
    from input_pipeline.dataset_info import DatasetInfo, SplitInfo
    from input_pipeline.records import CHUNK_RECORDS, ShardInfo

    # One file of real records under as many names as need be.
    per_file, size = 10_000, 100
    path = folder / "all"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(per_file):
            writer.write(b"x" * size)
    step = (size + 16) * CHUNK_RECORDS
    offsets = tuple(range(0, per_file // CHUNK_RECORDS * step, step))
    shard = ShardInfo("all", per_file, offsets)
    split = SplitInfo((shard,) * (records // per_file))
    described = DatasetInfo("made-up", 1, ("a",), {"train": split})

    def handle() -> None:
        from_disk = stream.Records(described, str(folder), "train")
        number, count = host
        data = stream.stream(
            from_disk,
            seed=0,
            start=records // 2 // count,
            input_host=stream.InputHost(number, count),
        )
        next(iter(data.take(1)))

    return handle


def _order(records: int, folder: Path) -> Handle:
    """Return what puts the chunks of an epoch in their order, once in it."""
    import tensorflow as tf

    from input_pipeline import stream

    from_disk = stream.Records(info(records), str(folder), "train")
    order = tf.function(
        lambda key: stream._order_of_chunks(from_disk, key), autograph=False
    )
    key = tf.constant([0, 1], tf.int64)
    order(key)
    return lambda: order(key) is None or None


def _reports(
    records: int, *, files: int = _FILES, classes: int = 1000
) -> "list[ShardReport]":
    """Return what validate has found in each file: nothing wrong."""
    from input_pipeline.validation.findings import Findings
    from input_pipeline.validation.inspect_shard import IMAGE, ShardReport

    random = np.random.default_rng(0)
    ends = [records * number // files for number in range(files + 1)]
    found = []
    for number, (begin, end) in enumerate(itertools.pairwise(ends)):
        images = np.zeros(end - begin, IMAGE)
        images["record"] = np.arange(end - begin)
        images["label"] = 1 + np.arange(begin, end) % classes
        images["height"], images["width"] = 375, 500
        images["bytes"] = _RECORD_BYTES
        images["digest"] = random.integers(0, 2**62, images["digest"].shape)
        names = np.full(end - begin, b"n01440764_10026.JPEG")
        file = f"train-{number:05d}-of-{files:05d}"
        found.append(ShardReport(file, Findings(), images, names, 1))
    return found


def _validated(reports: "list[ShardReport]", described: "DatasetInfo") -> Handle:
    """Return what validate does once it has read all files."""
    from input_pipeline.validation import duplicates, inspect_dataset
    from input_pipeline.validation.findings import Findings

    shards, split = {"train": reports}, described.splits["train"]

    def handle() -> None:
        findings = Findings()
        for report in reports:
            findings.merge(report.findings)
        inspect_dataset._check_labels(shards, described, findings)
        inspect_dataset._check_counts({"train": split}, shards, described, findings)
        duplicates.check_repeats(shards, findings)
        counts = inspect_dataset._class_counts(reports, described)
        inspect_dataset._summarize(split, reports, counts)

    return handle


def _items(records: int) -> "list[Item]":
    from input_pipeline.preparation.plan import Item

    return [
        Item(f"n{number % 1000:08d}_{number}.JPEG", number % 1000, 512 * number, 512)
        for number in range(records)
    ]


def _planned(records: int, files: int) -> Handle:
    """Return what prepare does before it reads an image."""
    from input_pipeline.preparation import plan

    items = _items(records)
    classes = tuple(plan.Class(f"n{n:08d}", f"class {n}") for n in range(1000))

    def handle() -> None:
        split = plan.Split(None, plan.shuffled(items), files)  # pyright: ignore[reportArgumentType]  # nothing is read
        whole = plan.Plan("made-up", classes, {"train": split})
        whole.files()
        plan.summary(whole)

    return handle


def _mistakes(classes: int) -> Handle:
    """Return what makes an evaluation's report of 50,000 images, wrong by half."""
    from train.mistakes import report
    from train.mistakes.outcomes import Outcomes

    images, random = 50_000, np.random.default_rng(0)
    label = random.integers(0, classes, images)
    guesses = random.integers(0, classes, [images, 3])
    guesses[::2, 0] = label[::2]
    outcomes = Outcomes(
        position=np.arange(images),
        label=label,
        predicted=guesses[:, 0],
        guesses=guesses,
        probabilities=np.full([images, 3], 0.3, np.float32),
    )
    names = [f"class {number}" for number in range(classes)]

    def handle() -> None:
        chosen = outcomes.worst(100).tolist()
        pictures = [None] * len(chosen)
        found = report.make(
            outcomes, names, {}, network="x", chosen=chosen, pictures=pictures
        )
        found.summary(None)

    return handle


def _losses(classes: int) -> Handle:
    """Return the loss of smoothed labels and top-1 of a batch, compiled before."""
    import tensorflow as tf

    from train import losses, metrics

    logits = tf.random.stateless_normal([256, classes], (0, 1))
    labels = tf.range(256) % classes
    mask = tf.ones([256], tf.bool)

    @tf.function(autograph=False)
    def scored() -> tuple[tf.Tensor, tf.Tensor]:
        loss = losses.cross_entropy(labels, logits, 0.1)
        return tf.reduce_mean(loss), metrics.correct_in_top(1, labels, logits, mask)

    scored()
    return lambda: scored() is None or None


def _heartbeats(hosts: int, folder: Path) -> Handle:
    """Return what the chief reads of all processes, and says of them."""
    from train.fault_tolerance import heartbeat

    beats = [
        heartbeat.Heartbeat(
            host=number,
            hostname=f"machine-{number}",
            pid=1,
            phase="training",
            step=1000,
            phase_seconds=1.0,
            time=1e9,
            state="running",
        )
        for number in range(hosts)
    ]
    (folder / "hosts").mkdir()
    for beat in beats:
        heartbeat.write(str(folder), beat)

    def handle() -> None:
        read = [heartbeat.read(str(folder), number) for number in range(hosts)]
        heartbeat.table(read, 1e9)
        heartbeat.suspects(read, 1e9)
        heartbeat.strangers(str(folder))

    return handle


def cases() -> list[Case]:
    """Return what grows with a data set and with the machines that share it."""
    of_records = functools.partial(Case, axis="records")
    of_classes = functools.partial(Case, axis="classes")
    of_shards = functools.partial(Case, axis="files")
    return [
        of_records(
            name="dataset_info.json is read",
            sizes=RECORDS,
            make=lambda size, folder: _description(info(size), folder),
        ),
        of_records(
            name="first record from half an epoch on",
            sizes=RECORDS,
            make=functools.partial(_first_batch, host=(0, 1)),
        ),
        of_records(
            name="the order of an epoch's chunks",
            sizes=RECORDS,
            make=_order,
        ),
        of_records(
            name="validate, behind the files",
            sizes=RECORDS,
            make=lambda size, _: _validated(_reports(size), info(size)),
        ),
        of_records(
            name="prepare's plan",
            sizes=ITEMS,
            make=lambda size, _: _planned(size, 1024),
        ),
        of_classes(
            name="dataset_info.json is read",
            sizes=CLASSES,
            make=lambda size, folder: _description(info(_FEW, classes=size), folder),
        ),
        of_classes(
            name="validate, behind the files",
            sizes=CLASSES,
            make=lambda size, _: _validated(
                _reports(_FEW, classes=size), info(_FEW, classes=size)
            ),
        ),
        of_classes(
            name="report of an evaluation's mistakes",
            sizes=CLASSES,
            make=lambda size, _: _mistakes(size),
        ),
        of_classes(
            name="loss and top-1 of a batch of 256",
            sizes=CLASSES,
            make=lambda size, _: _losses(size),
        ),
        of_shards(
            name="dataset_info.json and its files are looked at",
            sizes=SHARDS,
            make=lambda size, folder: _description(info(_FEW, files=size), folder),
        ),
        of_shards(
            name="dataset_info.json is written",
            sizes=SHARDS,
            make=lambda size, folder: _written(info(_FEW, files=size), folder),
            work="bytes written",
        ),
        of_shards(
            name="validate, behind the files",
            sizes=SHARDS,
            make=lambda size, _: _validated(
                _reports(_FEW, files=size), info(_FEW, files=size)
            ),
        ),
        of_shards(
            name="prepare's plan",
            sizes=SHARDS,
            make=lambda size, _: _planned(_FEW, size),
        ),
        Case(
            name="first record of one host",
            axis="hosts",
            sizes=HOSTS,
            make=lambda size, folder: _first_batch(
                1_000_000, folder, host=(size - 1, size)
            ),
        ),
        Case(
            name="heartbeats of all hosts are read",
            axis="hosts",
            sizes=HOSTS,
            make=_heartbeats,
        ),
    ]
