"""Small datasets on disk, made of JPEGs that differ from record to record."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from input_pipeline import dataset_info, records

DATA = pathlib.Path(__file__).parents[1] / "data" / "input_pipeline"
# For functions that a data set maps: they need no AutoGraph, which takes seconds.
as_it_is = tf.autograph.experimental.do_not_convert
LABEL_NAMES = tuple(f"class {i}" for i in range(5))


def jpeg(value: int, height: int = 24, width: int = 32) -> bytes:
    pixels = np.random.RandomState(value).randint(0, 256, (height, width, 3))
    return tf.io.encode_jpeg(pixels.astype(np.uint8)).numpy()


def example(value: int, **fields) -> bytes:
    fields = {"encoded": jpeg(value), "label": 1 + value % 5, **fields}
    encoded = fields.pop("encoded")
    return records.make_example(
        encoded,
        **{"height": 24, "width": 32, "filename": f"{value}.JPEG", **fields},
        synset="n01440764",
        text="tench",
    )


def write_dataset(
    folder: pathlib.Path, shards: dict[str, list[bytes]]
) -> dataset_info.DatasetInfo:
    """Writes `{shard name: records}`; the split is the name's first word."""
    folder.mkdir(parents=True, exist_ok=True)
    splits: dict[str, list[records.ShardInfo]] = {}
    for name, contents in shards.items():
        shard = records.write_shard(str(folder / name), contents)
        splits.setdefault(name.split("-")[0], []).append(shard)
    info = dataset_info.DatasetInfo(
        "tiny",
        label_offset=1,
        label_names=LABEL_NAMES,
        splits={k: dataset_info.SplitInfo(tuple(v)) for k, v in splits.items()},
    )
    dataset_info.write_info(info, str(folder))
    return info


def forget_identity(folder: pathlib.Path) -> bytes:
    """Makes dataset_info.json as older versions wrote it; returns what it was."""
    path = folder / dataset_info.INFO_FILENAME
    before = path.read_bytes()
    content = json.loads(before)
    for split in content["splits"].values():
        split.pop("images", None)
        for shard in split["shards"]:
            del shard["digest"]
    path.write_text(json.dumps(content) + "\n")
    return before


def change_a_record(path: pathlib.Path, record: int, replacing: bytes, by: bytes):
    """Changes bytes of a record in place, to as many others; its CRC is right."""
    found = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    contents = [bytes(content) for content in found]
    contents[record] = contents[record].replace(replacing, by)
    size = path.stat().st_size
    records.write_shard(str(path), contents)
    assert path.stat().st_size == size
