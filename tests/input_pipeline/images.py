"""Small image files in all the forms that preparation meets."""

import hashlib
import io
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input_pipeline import dataset_info, records


def picture(seed: int, height: int, width: int) -> Image.Image:
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(
    seed: int, form: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (16, 20)
) -> bytes:
    output = io.BytesIO()
    picture(seed, *size).convert(mode).save(output, form)
    return output.getvalue()


def write_files(root: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def touch_latin1(folder: pathlib.Path, *names: str) -> None:
    """Make empty files whose names are no UTF-8, or skip the test."""
    try:
        for name in names:
            (folder / os.fsdecode(name.encode("latin-1"))).touch()
    except OSError:
        pytest.skip("the file system allows UTF-8 alone")


def stored(folder: pathlib.Path, split: str) -> dict[str, tuple[int, str, bytes]]:
    """Label, class text and encoded bytes of each record of a split by filename."""
    info = dataset_info.load_info(str(folder))
    paths = [records.shard_path(str(folder), s) for s in info.split(split).shards]
    result = {}
    for content in tf.data.TFRecordDataset(paths).as_numpy_iterator():
        features = tf.train.Example.FromString(content).features.feature
        name, text, image = (
            features[key].bytes_list.value[0]
            for key in ("image/filename", "image/class/text", "image/encoded")
        )
        label = features["image/class/label"].int64_list.value[0]
        assert name.decode() not in result
        result[name.decode()] = (label, text.decode(), image)
    return result


def digests(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }
