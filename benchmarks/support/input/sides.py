"""The pipelines that `benchmarks.input` measures, each side in a process of its own."""

import concurrent.futures
import contextlib
import functools
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from benchmarks.support.input.case import (
    BATCH,
    BATCHING,
    EVALUATIONS,
    PLAIN,
    SHUFFLE_BUFFER,
    WHOLE,
    InputSettings,
)
from input_pipeline import dataset, preprocess
from input_pipeline.bad_records import decode_group
from input_pipeline.dataset_info import load_info
from input_pipeline.in_order import finite
from input_pipeline.randaugment import rand_augment
from input_pipeline.records import parse, shard_path
from input_pipeline.stream import Records, stream

_AREAS, _RATIOS = (0.08, 1.0), (3 / 4, 4 / 3)
_REST_SECONDS, _REST_SHARE = 0.1, 0.02


class _Side:
    """Pipelines of one library, in a process of its own."""

    def __init__(self, settings: InputSettings):
        self.settings = settings
        self._started: dict[str, tuple[Iterator, int]] = {}

    def cpu_ms(self, name: str) -> float:
        """Return the CPU milliseconds of an image in one of the pipelines."""
        if name not in self._started:
            pipeline, size = self.pipeline(name)
            self._started[name] = iter(pipeline), -(-self.settings.images // size)
            self._consume(name)
        start = _cpu_at_rest()
        images = self._consume(name)
        return 1000 * (_cpu_at_rest() - start) / images

    def _consume(self, name: str) -> int:
        """Take the images of one repeat, at least, and return how many."""
        iterator, elements = self._started[name]
        images = 0
        for _ in range(elements):
            images += tf.nest.flatten(next(iterator))[0].shape[0]
        return images

    def pipeline(self, name: str) -> tuple[tf.data.Dataset, int]:
        """Return an endless dataset and how many images an element holds."""
        raise NotImplementedError


def _cpu_at_rest() -> float:
    """Return the CPU seconds of this process, once its pipelines have filled up."""
    before = time.process_time()
    while True:
        time.sleep(_REST_SECONDS)
        now = time.process_time()
        if now - before < _REST_SHARE * _REST_SECONDS and not _has_work():
            return now
        before = now


def _has_work() -> bool:
    """Whether another thread of this process runs, or waits for a core or a disk.

    On a busy machine a pipeline that gets no core uses no time, either.
    """
    own = str(threading.get_native_id())
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            if state in "RD" and task.name != own:
                return True
    return False


class _Ours(_Side):
    """`train_dataset`, and what it is made of."""

    def __init__(self, settings: InputSettings):
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
        self._group = dataset._divisor(BATCH)

    def data(self) -> dict[str, Any]:
        """Read all records once, and describe them."""
        sizes = finite(self._records).map(self._size, tf.data.AUTOTUNE).batch(1024)
        sizes = [size for batch in sizes.as_numpy_iterator() for size in batch]
        return {
            "images": len(sizes),
            "mean_bytes": round(statistics.mean(int(size[0]) for size in sizes)),
            "mean_pixels": round(statistics.mean(int(size[1]) for size in sizes)),
        }

    def _size(self, element: dict[str, tf.Tensor]) -> tf.Tensor:
        encoded = parse(element["serialized"], self._info.fields)["encoded"]
        pixels = tf.reduce_prod(tf.image.extract_jpeg_shape(encoded)[:2])
        return tf.stack([tf.strings.length(encoded), pixels])

    def pipeline(self, name: str) -> tuple[tf.data.Dataset, int]:
        if name in (WHOLE, PLAIN):
            return self._whole(fused_ops=None if name == WHOLE else False), BATCH
        if name == BATCHING:
            return self._batching(), BATCH
        for pixels, evaluation in EVALUATIONS.items():
            if name == evaluation:
                return self._evaluation(pixels), BATCH
        return self._prefix(name), self._group

    def _whole(self, fused_ops: bool | None = None) -> tf.data.Dataset:
        settings = self.settings
        return dataset.train_dataset(
            data_dir=settings.data_dir,
            split=settings.split,
            resolution=settings.resolution,
            batch_size=BATCH,
            seed=0,
            area_range=_AREAS,
            aspect_ratio_range=_RATIOS,
            augment=self._augment if settings.augments else None,
            shuffle_buffer=SHUFFLE_BUFFER,
            fused_ops=fused_ops,
        )

    def _evaluation(self, pixels: str) -> tf.data.Dataset:
        settings = self.settings
        return dataset.eval_dataset(
            data_dir=settings.data_dir,
            split=settings.split,
            resolution=settings.resolution,
            batch_size=BATCH,
            pixels=pixels,
        ).repeat()

    def _batching(self) -> tf.data.Dataset:
        """Put images that are decoded already into batches, as train_dataset does."""
        side = self.settings.resolution
        image = {"image": tf.zeros([side, side, 3], tf.uint8), "label": tf.constant(0)}
        groups = tf.data.Dataset.from_tensors(image).repeat().batch(self._group, True)
        return dataset._batches(groups, BATCH // self._group, 1, "NHWC")

    def _prefix(self, name: str) -> tf.data.Dataset:
        """Do what train_dataset does up to a stage, and drop what comes of it."""
        elements = stream(self._records, seed=0, shuffle_buffer=SHUFFLE_BUFFER)
        groups = elements.batch(self._group, drop_remainder=True)
        if name != "read":
            groups = dataset._decoded(groups, self._loader(name))
        return groups.prefetch(tf.data.AUTOTUNE)

    def _loader(self, name: str) -> Callable:
        """Decode groups of records up to a stage."""

        def load(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            encoded, label = dataset._checked_fields(element, self._info)
            seeds = preprocess.image_seeds(0, element["index"])
            image = self._image(name, encoded, seeds)
            return {"image": tf.ensure_shape(image[:1, :1], [1, 1, 3]), "label": label}

        def load_all(group: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return decode_group(
                group,
                load,
                self._info,
                self._records,
                resolution=1,
                on_bad_record="stop",
            )

        return tf.autograph.experimental.do_not_convert(load_all)

    def _image(self, name: str, encoded: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Return an image as it is behind a stage."""
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
        folder = info.records_folder(settings.data_dir)
        shards = info.split(settings.split).shards
        randaug = common.RandAugment(
            num_layers=settings.num_layers,
            magnitude=settings.magnitude,
            magnitude_std=0.0,
            prob_to_apply=None,
        )
        augmentation = common.Augmentation(type="randaug", randaug=randaug)
        data = image_classification.DataConfig(
            input_path=[shard_path(folder, shard) for shard in shards],
            is_training=True,
            global_batch_size=BATCH,
            shuffle_buffer_size=SHUFFLE_BUFFER,
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
        return task.build_inputs(data), BATCH


_SIDES = {"ours": _Ours, "model_garden": _ModelGarden}


class SideProcess:
    """A side in a process of its own, which answers one request after another."""

    def __init__(self, side: str, settings: InputSettings):
        self._pool = concurrent.futures.ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(side, settings),
        )

    def ask(self, method: str, *arguments: Any) -> Any:
        """Return what a method of the side returns."""
        return self._pool.submit(_answer, method, *arguments).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


_side: _Side  # in a process that SideProcess has started


def _start(side: str, settings: InputSettings) -> None:
    global _side
    _side = _SIDES[side](settings)


def _answer(method: str, *arguments: Any) -> Any:
    return getattr(_side, method)(*arguments)
