"""Who makes records of ImageNet's tars, each as a process of its own, on one core.

    python -m benchmarks.support.prepare_sides SIDE FEW MANY OUTPUT

prints the CPU seconds, its children's too, of the tars in the folder MANY; those in FEW
are turned into records before, so that nothing is loaded for the first time.

The TPU repository's script is told here in its steps, not in its lines: tars are
extracted, each JPEG is read and decoded whole to know its size and that it is RGB, what
is known to be a PNG or CMYK goes another way, and an Example goes to a TFRecord file.
TFDS' builder is TFDS' own; it decodes nothing.
"""

import importlib.resources
import importlib.resources.abc
import io
import resource
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
LABELS = "validation.txt"
SHARDS, VALIDATION_SHARDS = 4, 2
# Of ImageNet's first classes.
SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")
# Of ImageNet: the one PNG and two of the CMYK images. All names are looked up.
_PNG = frozenset({"n02105855_2933.JPEG"})
_CMYK = frozenset({"n01739381_1309.JPEG", "n02077923_14822.JPEG"})


def write_tars(jpegs: list[bytes], images: int, folder: Path) -> None:
    """Write made-up tars in ImageNet's form: a tenth of the images is for validation.

    Args:
      jpegs: that are repeated, each time with another comment in it.
      images: in all.
      folder: to write to.
    """
    count = images // 10
    with tarfile.open(folder / TRAIN, "w") as file:
        for label, synset in enumerate(SYNSETS):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as of_class:
                for number in range(label, images - count, len(SYNSETS)):
                    _add(of_class, f"{synset}_{number}.JPEG", _jpeg(jpegs, number))
            _add(file, f"{synset}.tar", inner.getvalue())
    with tarfile.open(folder / VALIDATION, "w") as file:
        for number in range(count):
            name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
            _add(file, name, _jpeg(jpegs, images + number))
    labels = (SYNSETS[number % len(SYNSETS)] for number in range(count))
    (folder / LABELS).write_text("".join(f"{one}\n" for one in labels))


def _jpeg(jpegs: list[bytes], number: int) -> bytes:
    """Return a photo whose bytes are no other's: a comment stands behind its begin."""
    photo, text = jpegs[number % len(jpegs)], f"{number:08d}".encode()
    return (
        photo[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + photo[2:]
    )


def _add(file: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    file.addfile(member, io.BytesIO(data))


def ours(tars: Path, output: Path) -> None:
    """Run prepare, with one process."""
    from input_pipeline import prepare

    _run(
        prepare.main,
        *("imagenet", "--train_tar", tars / TRAIN),
        *("--validation_tar", tars / VALIDATION, "--labels", tars / LABELS),
        *("--output", output, "--shards", SHARDS),
        *("--validation_shards", VALIDATION_SHARDS, "--workers", 1),
    )


def our_validate(tars: Path, output: Path) -> None:
    """Run validate on what `ours` has written, with one process."""
    from input_pipeline import validate

    del tars
    _run(validate.main, "--data_dir", output, "--workers", 1)


def _run(main: Callable[..., int], *words: object) -> None:
    status = main([*map(str, words)])
    if status:
        raise SystemExit(status)


def tpu_script(tars: Path, output: Path) -> None:
    """Do what the TPU repository's imagenet_to_gcs.py does."""
    import tensorflow as tf

    output.mkdir(parents=True)
    train, validation = output / "train", output / "validation"
    with tarfile.open(tars / TRAIN) as file:
        file.extractall(train, filter="data")
    for inner in train.glob("*.tar"):
        with tarfile.open(inner) as file:
            file.extractall(train / inner.stem, filter="data")
    with tarfile.open(tars / VALIDATION) as file:
        file.extractall(validation, filter="data")
    labels = (tars / LABELS).read_text().split()
    in_train = [(path, path.parent.name) for path in sorted(train.glob("*/*.JPEG"))]
    in_validation = zip(sorted(validation.glob("*.JPEG")), labels, strict=True)
    for name, images, shards in (
        ("train", in_train, SHARDS),
        ("validation", [*in_validation], VALIDATION_SHARDS),
    ):
        size = -(-len(images) // shards)
        for shard in range(shards):
            path = output / f"{name}-{shard:05d}-of-{shards:05d}"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for example in _examples(images[shard * size : (shard + 1) * size]):
                    writer.write(example)


def _examples(images: list[tuple[Path, str]]) -> Iterator[bytes]:
    import tensorflow as tf

    def of_bytes(*values: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    def of_numbers(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    for path, synset in images:
        with tf.io.gfile.GFile(str(path), "rb") as file:
            encoded = file.read()
        if path.name in _PNG:
            encoded = tf.io.encode_jpeg(tf.io.decode_png(encoded, 3)).numpy()
        elif path.name in _CMYK:
            encoded = tf.io.encode_jpeg(tf.io.decode_jpeg(encoded, 3)).numpy()
        image = tf.io.decode_jpeg(encoded, channels=3)
        height, width, channels = image.shape
        assert (image.shape.rank, channels) == (3, 3)
        features = {
            "image/height": of_numbers(height),
            "image/width": of_numbers(width),
            "image/colorspace": of_bytes(b"RGB"),
            "image/channels": of_numbers(channels),
            "image/class/label": of_numbers(1 + SYNSETS.index(synset)),
            "image/class/synset": of_bytes(synset.encode()),
            "image/format": of_bytes(b"JPEG"),
            "image/filename": of_bytes(path.name.encode()),
            "image/encoded": of_bytes(encoded),
        }
        yield tf.train.Example(
            features=tf.train.Features(feature=features)
        ).SerializeToString()


def tfds_builder(tars: Path, output: Path) -> None:
    """Run TFDS' own builder, which is offered no file of Google's."""
    # What TFDS takes for it, without asking for it to be installed.
    sys.modules["importlib_resources"] = importlib.resources
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils import gcs_utils

    gcs_utils._is_gcs_disabled = True
    builder = tfds.builder("imagenet2012", data_dir=str(output))
    config = tfds.download.DownloadConfig(manual_dir=str(tars))
    builder.download_and_prepare(download_config=config)


def decoded(tars: Path, output: Path) -> None:
    """Read what `ours` has written as anybody would: parse each, and decode it."""
    import tensorflow as tf

    del tars
    fields = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }

    def read(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found = tf.io.parse_single_example(serialized, fields)
        image = tf.io.decode_jpeg(found["image/encoded"], channels=3)
        return tf.reduce_max(tf.shape(image)), found["image/class/label"]

    paths = sorted(map(str, output.glob("*-of-*")))
    for _ in tf.data.TFRecordDataset(paths).map(read):
        pass


READERS = ("validate", "decoded")  # of what `ours` has written
SIDES: dict[str, Callable[[Path, Path], None]] = {
    "ours": ours,
    "tpu_script": tpu_script,
    "tfds": tfds_builder,
    "validate": our_validate,
    "decoded": decoded,
}


def main(side: str, few: str, many: str, output: str) -> None:
    """Print what a side costs."""
    of_few, of_many = Path(output, "few"), Path(output, "many")
    if side in READERS:
        ours(Path(few), of_few)
        ours(Path(many), of_many)
    SIDES[side](Path(few), of_few)
    before = _seconds()
    SIDES[side](Path(many), of_many)
    print(f"\n{_seconds() - before}")


def _seconds() -> float:
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


if __name__ == "__main__":
    main(*sys.argv[1:])
