import hashlib

import pytest
import tensorflow as tf

from input_pipeline import records
from input_pipeline.errors import DataError
from tests.input_pipeline.builders import example, jpeg


def test_an_example_has_imagenets_fields():
    features = tf.train.Example.FromString(example(3)).features.feature
    want = {
        "image/encoded": [jpeg(3)],
        "image/format": [b"JPEG"],
        "image/colorspace": [b"RGB"],
        "image/channels": [3],
        "image/height": [24],
        "image/width": [32],
        "image/filename": [b"3.JPEG"],
        "image/class/label": [4],
        "image/class/synset": [b"n01440764"],
        "image/class/text": [b"tench"],
    }
    got = {
        k: list(v.bytes_list.value) or list(v.int64_list.value)
        for k, v in features.items()
    }
    assert got == want


def test_an_example_has_the_bytes_of_one_that_is_made_at_once():
    """Those of the folders that were prepared before."""
    of_bytes, of_numbers = tf.train.BytesList, tf.train.Int64List
    values = {
        "image/encoded": of_bytes(value=[jpeg(3)]),
        "image/format": of_bytes(value=[b"JPEG"]),
        "image/colorspace": of_bytes(value=[b"RGB"]),
        "image/channels": of_numbers(value=[3]),
        "image/height": of_numbers(value=[24]),
        "image/width": of_numbers(value=[32]),
        "image/filename": of_bytes(value=["3 é.JPEG".encode()]),
        "image/class/label": of_numbers(value=[0]),
        "image/class/synset": of_bytes(value=[b"n01440764"]),
        "image/class/text": of_bytes(value=[b"tench"]),
    }
    features = {
        name: tf.train.Feature(bytes_list=one)
        if isinstance(one, of_bytes)
        else tf.train.Feature(int64_list=one)
        for name, one in values.items()
    }
    whole = tf.train.Example(features=tf.train.Features(feature=features))
    made = example(3, label=0, filename="3 é.JPEG")
    assert made == whole.SerializeToString(deterministic=True)


def test_parse_reads_bytes_and_label_and_marks_what_is_missing():
    got = records.parse(tf.constant(example(3)))
    assert got["encoded"].numpy() == jpeg(3)
    assert got["label"].numpy() == 4
    empty = records.parse(tf.constant(b""))
    assert empty["encoded"].numpy() == b""
    assert empty["label"].numpy() == records.MISSING_LABEL
    named = records.parse(tf.constant(example(3)), filename=True)
    assert (named["filename"].numpy(), named["label"].numpy()) == (b"3.JPEG", 4)
    with pytest.raises(tf.errors.InvalidArgumentError):
        records.parse(tf.constant(b""), image_required=True)


def test_indexing_finds_what_writing_said_and_checks_every_byte(tmp_path):
    path = tmp_path / "train-0"
    contents = [bytes(n) for n in range(40)]
    shard = records.write_shard(str(path), contents)
    assert records.index_shard(str(path)) == shard
    assert (shard.filename, shard.records) == ("train-0", 40)
    whole = path.read_bytes()
    for place, offset in enumerate(shard.offsets):
        length = int.from_bytes(whole[offset : offset + 8], "little")
        assert length == place * records.CHUNK_RECORDS
    for cut in (1, 39 + 4):  # within the last record; behind its length
        path.write_bytes(whole[:-cut])
        with pytest.raises(DataError, match=r"train-0 is .* after 39 good records"):
            records.index_shard(str(path))


def test_a_shard_appears_whole_or_not_at_all(tmp_path):
    def examples():
        yield b"one"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        records.write_shard(str(tmp_path / "train-0"), examples())
    assert not list(tmp_path.iterdir())


def test_a_digest_is_of_lengths_and_bytes(tmp_path):
    path, contents = str(tmp_path / "train-0"), [b"one", b"", b"three" * 999]
    by_hand = hashlib.sha256()
    for content in contents:
        by_hand.update(len(content).to_bytes(8, "little") + content)
    digest = by_hand.hexdigest()[:32]
    assert records.write_shard(path, contents).digest == digest
    assert records.index_shard(path).digest == digest
    for others in (
        [b"onet", b"", (b"three" * 999)[1:]],  # the same bytes, cut elsewhere
        [b"", b"one", b"three" * 999],
        contents[:2],
    ):
        assert records.write_shard(path, others).digest != digest


def test_one_record_is_read_by_where_it_begins(tmp_path):
    path, contents = str(tmp_path / "train-0"), [b"one", b"", b"three"]
    shard = records.write_shard(path, contents)
    bounds = records.bounds(map(len, contents))
    assert bounds == [0, 19, 35, (tmp_path / "train-0").stat().st_size]
    assert shard.offsets == (0,)
    for content, begin in zip(contents, bounds, strict=False):
        for name in (path, f"file://{path}"):
            assert records.read_record(name, begin, len(content)) == content
