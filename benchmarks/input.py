"""What feeding one image costs a host's CPU: one line of JSON.

python -m benchmarks.input --data_dir=data/photos --against=model_garden

Measures CPU time, not speed, of `train_dataset` with RandAugment, from records to uint8
batches, and of each stage within it; and beside it, on the same records, the Model
Garden's image classification. Each side has a process of its own. Time counts from one
moment at which its pipeline is at rest, with all buffers full, to another, so that what
is decoded ahead is neither lost nor another measurement's. Every repeat measures all in
turns and gives a ratio of its own, so what else the machine does hits all alike.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import importlib.metadata
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# Only this command's own lines shall reach the terminal. TensorFlow reads it on import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from benchmarks.support import machine
from common.cli import positive
from input_pipeline import dataset, preprocess
from input_pipeline.bad_records import load_group
from input_pipeline.errors import DataError
from input_pipeline.randaugment import rand_augment
from input_pipeline.records import load_info, parse, shard_path
from input_pipeline.stream import Records, finite, stream

_BATCH = 64
_SHUFFLE_BUFFER = 1024
_AREAS, _RATIOS = (0.08, 1.0), (3 / 4, 4 / 3)
_HOSTS = (96, 240)  # vCPUs of hosts that are common: eight GPUs, a TPU v4
_REST_SECONDS, _REST_SHARE = 0.1, 0.02

_WHOLE, _BATCHING = "whole", "batch"
_PREFIXES = ("read", "parse", "decode_crop", "resize", "flip", "augment")

_METHOD = {
    "cpu_ms_per_image": "user and system time of the process, of all its threads; "
    "median of the repeats",
    "stages": "read to augment: what a pipeline that ends there costs more than one "
    "that ends a stage before, each with the guard against bad records, and handing on "
    "one pixel of an image; batch: by itself, on images in memory. So stages_sum does "
    "not follow from cpu_ms_per_image",
    "warm_up": "every pipeline has made as many images as a repeat takes; all records "
    "have been read once, and come from the operating system's memory",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; flags of the command line."""

    data_dir: str
    split: str
    resolution: int
    images: int
    augments: bool
    num_layers: int
    magnitude: float


class _Side:
    """Pipelines of one library, in a process of its own."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._started: dict[str, tuple[Iterator, int]] = {}

    def cpu_ms(self, name: str) -> float:
        """Returns the CPU milliseconds of an image in one of the pipelines."""
        if name not in self._started:
            pipeline, size = self.pipeline(name)
            self._started[name] = iter(pipeline), -(-self.settings.images // size)
            self._consume(name)
        start = _cpu_at_rest()
        images = self._consume(name)
        return 1000 * (_cpu_at_rest() - start) / images

    def _consume(self, name: str) -> int:
        """Takes the images of one repeat, at least, and returns how many."""
        iterator, elements = self._started[name]
        images = 0
        for _ in range(elements):
            images += tf.nest.flatten(next(iterator))[0].shape[0]
        return images

    def pipeline(self, name: str) -> tuple[tf.data.Dataset, int]:
        """Returns an endless dataset and how many images an element holds."""
        raise NotImplementedError


def _cpu_at_rest() -> float:
    """The CPU seconds of this process, once its pipelines have filled their buffers."""
    before = time.process_time()
    while True:
        time.sleep(_REST_SECONDS)
        now = time.process_time()
        if now - before < _REST_SHARE * _REST_SECONDS:
            return now
        before = now


class _Ours(_Side):
    """`train_dataset`, and what it is made of."""

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self._info = load_info(settings.data_dir)
        self._records = Records(self._info, settings.data_dir, settings.split)
        self._augment = functools.partial(
            rand_augment,
            num_layers=settings.num_layers,
            magnitude=settings.magnitude,
        )
        # Groups are what one call decodes. There is no public way to these parts: the
        # project's other code has no use for them.
        self._group = dataset._divisor(_BATCH)

    def data(self) -> dict[str, Any]:
        """Reads all records once, and describes them."""
        sizes = finite(self._records).map(self._size, tf.data.AUTOTUNE).batch(1024)
        sizes = [size for batch in sizes.as_numpy_iterator() for size in batch]
        return {
            "images": len(sizes),
            "mean_bytes": round(statistics.mean(int(size[0]) for size in sizes)),
            "mean_pixels": round(statistics.mean(int(size[1]) for size in sizes)),
        }

    def _size(self, element: dict[str, tf.Tensor]) -> tf.Tensor:
        encoded = parse(element["serialized"])["encoded"]
        pixels = tf.reduce_prod(tf.image.extract_jpeg_shape(encoded)[:2])
        return tf.stack([tf.strings.length(encoded), pixels])

    def pipeline(self, name: str) -> tuple[tf.data.Dataset, int]:
        if name == _WHOLE:
            return self._whole(), _BATCH
        if name == _BATCHING:
            return self._batching(), _BATCH
        return self._prefix(name), self._group

    def _whole(self) -> tf.data.Dataset:
        settings = self.settings
        return dataset.train_dataset(
            data_dir=settings.data_dir,
            split=settings.split,
            resolution=settings.resolution,
            batch_size=_BATCH,
            seed=0,
            area_range=_AREAS,
            aspect_ratio_range=_RATIOS,
            augment=self._augment if settings.augments else None,
            shuffle_buffer=_SHUFFLE_BUFFER,
        )

    def _batching(self) -> tf.data.Dataset:
        """Puts images that are decoded already into batches, as train_dataset does."""
        side = self.settings.resolution
        image = {"image": tf.zeros([side, side, 3], tf.uint8), "label": tf.constant(0)}
        groups = tf.data.Dataset.from_tensors(image).repeat().batch(self._group, True)
        return dataset._batches(groups, _BATCH // self._group, 1, "NHWC")

    def _prefix(self, name: str) -> tf.data.Dataset:
        """Does what train_dataset does up to a stage, and drops what comes of it."""
        elements = stream(self._records, seed=0, shuffle_buffer=_SHUFFLE_BUFFER)
        groups = elements.batch(self._group, drop_remainder=True)
        if name != "read":
            groups = dataset._decoded(groups, self._loader(name))
        return groups.prefetch(tf.data.AUTOTUNE)

    def _loader(self, name: str) -> Callable:
        """Loads groups of records up to a stage."""

        def load(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            encoded, label = dataset._checked_fields(element, self._info)
            seeds = dataset._image_seeds(0, element["index"])
            image = self._image(name, encoded, seeds)
            return {"image": tf.ensure_shape(image[:1, :1], [1, 1, 3]), "label": label}

        def load_all(group: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return load_group(
                group,
                load,
                self._info,
                self._records,
                resolution=1,
                on_bad_record="stop",
            )

        return tf.autograph.experimental.do_not_convert(load_all)

    def _image(self, name: str, encoded: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """One image as it is behind a stage."""
        side = self.settings.resolution
        if name == "parse":
            return tf.zeros([1, 1, 3], tf.uint8)
        ranges: Any = {"area_range": _AREAS, "aspect_ratio_range": _RATIOS}
        if name == "decode_crop":
            shape = preprocess.jpeg_shape(encoded)
            window = preprocess.random_window(shape, side, seeds[0], **ranges)
            return tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
        flip = name != "resize"
        image = preprocess.train_image(encoded, side, seeds[0], flip=flip, **ranges)
        return self._augment(image, seeds[1]) if name == "augment" else image


class _ModelGarden(_Side):
    """What the Model Garden's task of image classification reads."""

    def pipeline(self, name: str) -> tuple[tf.data.Dataset, int]:
        # They take many seconds to import.
        from official.vision.configs import common, image_classification
        from official.vision.tasks.image_classification import ImageClassificationTask

        settings = self.settings
        info = load_info(settings.data_dir)
        shards = info.split(settings.split).shards
        randaug = common.RandAugment(
            num_layers=settings.num_layers,
            magnitude=settings.magnitude,
            magnitude_std=0.0,
            prob_to_apply=None,
        )
        augmentation = common.Augmentation(type="randaug", randaug=randaug)
        data = image_classification.DataConfig(
            input_path=[shard_path(settings.data_dir, shard) for shard in shards],
            is_training=True,
            global_batch_size=_BATCH,
            shuffle_buffer_size=_SHUFFLE_BUFFER,
            aug_rand_hflip=True,
            aug_type=augmentation if settings.augments else None,
            decode_jpeg_only=True,
            dtype="bfloat16",
        )
        model = image_classification.ImageClassificationModel(
            num_classes=len(info.label_names) + info.label_offset,
            input_size=[settings.resolution, settings.resolution, 3],
        )
        task = ImageClassificationTask(
            image_classification.ImageClassificationTask(model=model, train_data=data)
        )
        return task.build_inputs(data), _BATCH


_PEERS = {"model_garden": _ModelGarden}


class _Process:
    """A side in a process of its own, which answers one request after another."""

    def __init__(self, side: type[_Side], settings: Settings):
        self._pool = concurrent.futures.ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(side, settings),
        )

    def ask(self, method: str, *arguments: Any) -> Any:
        """Returns what a method of the side returns."""
        return self._pool.submit(_answer, method, *arguments).result()

    def close(self) -> None:
        """Ends the process."""
        self._pool.shutdown()


_side: _Side  # in a process that _Process has started


def _start(side: type[_Side], settings: Settings) -> None:
    global _side
    _side = side(settings)


def _answer(method: str, *arguments: Any) -> Any:
    return getattr(_side, method)(*arguments)


def measure(settings: Settings, peer: str | None, repeats: int) -> dict[str, Any]:
    """Returns what the JSON says that is measured.

    Args:
      settings: of all pipelines.
      peer: one of _PEERS, or None.
      repeats: how often everything is measured.

    Raises:
      DataError: there is no such dataset, or no such split of it.
    """
    load_info(settings.data_dir).split(settings.split)  # before processes start
    sides = {"ours": _Process(_Ours, settings)}
    if peer is not None:
        sides[peer] = _Process(_PEERS[peer], settings)
    data = sides["ours"].ask("data")
    prefixes = _PREFIXES if settings.augments else _PREFIXES[:-1]
    rows = [(side, _WHOLE) for side in sides]
    rows += [("ours", name) for name in (*prefixes, _BATCHING)]
    cpu_ms: dict[tuple[str, str], list[float]] = {row: [] for row in rows}
    for i in range(repeats):
        for side, name in rows:
            cpu_ms[side, name].append(sides[side].ask("cpu_ms", name))
        wholes = ", ".join(f"{side} {cpu_ms[side, _WHOLE][-1]:.3f}" for side in sides)
        print(f"repeat {i + 1}/{repeats}: {wholes} ms", file=sys.stderr, flush=True)
    for process in sides.values():
        process.close()
    ours = cpu_ms["ours", _WHOLE]
    stages = _stages([cpu_ms["ours", name] for name in prefixes])
    stages[_BATCHING] = statistics.median(cpu_ms["ours", _BATCHING])
    return {
        **_figures("cpu_ms_per_image", ours),
        "images_per_second_per_core": round(1000 / statistics.median(ours), 1),
        "stages": {name: round(ms, 3) for name, ms in stages.items()},
        "stages_sum": round(sum(stages.values()), 3),
        **(_compared(peer, ours, cpu_ms[peer, _WHOLE]) if peer else {"peer": None}),
        "host_feeds": _host_feeds(statistics.median(ours)),
        "data": data,
    }


def _stages(prefixes: Sequence[Sequence[float]]) -> dict[str, float]:
    """What each prefix costs more than the one before, medians over the repeats."""
    nothing = [0.0] * len(prefixes[0])
    pairs = zip([nothing, *prefixes], prefixes, strict=False)
    return {
        name: statistics.median(b - a for a, b in zip(before, after, strict=True))
        for name, (before, after) in zip(_PREFIXES, pairs, strict=False)
    }


def _compared(
    peer: str, ours: Sequence[float], theirs: Sequence[float]
) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "peer": peer,
        **_figures("peer_cpu_ms_per_image", theirs),
        **_figures("ratio", ratios),
        "ratio_is": "ours / the peer's, lower is better; median of the repeats' ratios",
        "peer_is": "the Model Garden's ImageClassificationTask.build_inputs, with the "
        "defaults of its DataConfig but for: RandAugment of the same layers and "
        "magnitude, pixels in bfloat16 as its TPU configs have them, "
        f"{_SHUFFLE_BUFFER} instead of 10,000 records to shuffle",
    }


def _figures(name: str, values: Sequence[float]) -> dict[str, Any]:
    """The median and its spread."""
    return {
        name: round(statistics.median(values), 3),
        f"{name}_min_max": [round(min(values), 3), round(max(values), 3)],
    }


def _host_feeds(cpu_ms: float) -> dict[str, Any]:
    counts = {f"{os.cpu_count()} cores, this machine": os.cpu_count() or 1}
    counts |= {f"{count} vCPUs": count for count in _HOSTS}
    rates = {name: round(1000 * count / cpu_ms) for name, count in counts.items()}
    return {
        "images_per_second": rates,
        "is": "an extrapolation: cores * 1000 / cpu_ms_per_image, as if every vCPU "
        "were a core of this machine and had nothing else to do",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data_dir", required=True, help="a prepared dataset")
    parser.add_argument(
        "--split", default="train", help="of a large one, some shards: train[:4shard]"
    )
    parser.add_argument("--against", choices=_PEERS, help="whom to measure beside ours")
    parser.add_argument(
        "--images",
        type=positive,
        default=_SHUFFLE_BUFFER,
        help=f"in a repeat; best a multiple of {_SHUFFLE_BUFFER}, the shuffle buffer",
    )
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--resolution", type=positive, default=224)
    parser.add_argument("--num_layers", type=positive, default=2, help="RandAugment's")
    parser.add_argument("--magnitude", type=float, default=10, help="RandAugment's")
    parser.add_argument("--no_augment", dest="augments", action="store_false")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    arguments = vars(_parser().parse_args(argv))
    peer, repeats = arguments.pop("against"), arguments.pop("repeats")
    settings = Settings(**arguments)
    hardware = machine.describe()  # before this benchmark is part of the load
    try:
        measured = measure(settings, peer, repeats)
    except (DataError, tf.errors.OpError) as error:
        text = dataset.explain(error)
        if text is None:
            raise
        sys.exit(f"error: {text}")
    packages = ("tensorflow", *(["tf-models-official"] if peer else []))
    report = {
        "benchmark": "input",
        **measured,
        "settings": {**dataclasses.asdict(settings), "repeats": repeats},
        "method": _METHOD,
        "hardware": hardware,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "does_not_show": "disks, buckets and networks; a host with many cores, which "
        "share memory and threads' locks; accuracy; the copy to an accelerator",
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
