"""ImageNet (ILSVRC 2012) as it is downloaded: tar files that need not be extracted."""

import codecs
import dataclasses
import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from typing import IO

from common import extras
from input_pipeline.errors import DataError
from input_pipeline.preparation.plan import SYNSET, Class, Item, Plan, Split, shuffled
from input_pipeline.preparation.tar_files import Tar, members, open_tar

_GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_META = "data/meta.mat"
# What the whole dataset has.
_EXPECTED = {"classes": 1000, "train": 1_281_167, "validation": 50_000}
# Some have appended the synset to the name.
_VALIDATION_NAME = re.compile(rf"ILSVRC2012_val_(\d{{8}})(?:_({SYNSET}))?\.\w+", re.I)
_MOST_BYTES = 16 << 20  # of a file of labels; the development kit has 2.4 MB


@dataclasses.dataclass(frozen=True)
class Truth:
    """The synset of each validation image in order, and the words for synsets."""

    synsets: list[str]
    words: dict[str, str]


def plan(
    train_tar: str,
    *,
    validation_tar: str | None = None,
    labels: str | None = None,
    shards: int = 1024,
    validation_shards: int = 128,
) -> tuple[Plan, list[str]]:
    """Plan the TFRecords of ImageNet; the classes are in the order of their synsets.

    Args:
      train_tar: ILSVRC2012_img_train.tar, which holds a tar file for each synset.
      validation_tar: ILSVRC2012_img_val.tar; it needs `labels`.
      labels: ILSVRC2012_devkit_t12.tar.gz, or a text file of the validation images'
        synsets, one a line.
      shards: files of the training split.
      validation_shards: files of the validation split.

    Returns:
      The plan, and notes on what is not as in the whole dataset.

    Raises:
      DataError: a file that is missing, damaged or another one; labels that do not fit.
    """
    truth = Truth([], {}) if labels is None else read_truth(labels)
    by_synset = _index_train(train_tar)
    synsets = sorted(by_synset)
    items = [
        dataclasses.replace(item, label=label)
        for label, synset in enumerate(synsets)
        for item in by_synset[synset]
    ]
    splits = {"train": Split(Tar(train_tar), shuffled(items), shards)}
    if validation_tar is not None:
        items = _validation_items(validation_tar, truth.synsets, synsets)
        splits["validation"] = Split(
            Tar(validation_tar), shuffled(items), validation_shards
        )
    classes = tuple(Class(one, truth.words.get(one, one)) for one in synsets)
    whole = Plan("imagenet", classes, splits)
    return whole, notes_on(whole)


def notes_on(whole: Plan) -> list[str]:
    """Return what is not as in the whole ImageNet."""
    counts = {name: len(split.items) for name, split in whole.splits.items()}
    counts["classes"] = len(whole.classes)
    return [
        f"{name}: {count:,}, where the whole ImageNet has {_EXPECTED[name]:,}"
        for name, count in counts.items()
        if count != _EXPECTED[name]
    ]


def _index_train(path: str) -> dict[str, list[Item]]:
    """Return the images of each synset; their labels are still to be set."""
    found: dict[str, list[Item]] = {}
    packed: dict[str, str] = {}
    with open_tar(path) as file:
        for member, content in members(file, path):
            synset = re.fullmatch(rf"(?:.*/)?({SYNSET})\.tar", member.name)
            if not synset:
                raise DataError(
                    f"{path} holds {member.name}, where it should hold a tar file for "
                    "each synset (n01440764.tar): is it ILSVRC2012_img_train.tar? One "
                    "of folders is for imagefolder, its --source"
                )
            if other := packed.get(synset[1]):
                raise DataError(
                    f"{path} holds two tar files of {synset[1]}, {other} and "
                    f"{member.name}: remove one"
                )
            packed[synset[1]] = member.name
            images = [
                _item(image, member.offset_data, label=0)
                for image, _ in members(content, f"{member.name} in {path}")
            ]
            if not images:
                raise DataError(f"{member.name} in {path} is empty: download it again")
            found[synset[1]] = images
    if not found:
        raise DataError(f"{path} is empty: download it again")
    require_unique(found, path)
    return found


def require_unique(found: Mapping[str, Sequence[Item]], path: str) -> None:
    """Refuse two images of one name: they would be one image with two labels."""
    owner: dict[str, str] = {}
    for place, items in found.items():
        for item in items:
            if other := owner.get(item.filename):
                both = " and ".join(dict.fromkeys((other, place)))
                raise DataError(
                    f"{path} holds {item.filename} twice, in {both}: download it again"
                )
            owner[item.filename] = place


def _validation_items(path: str, truth: list[str], synsets: list[str]) -> list[Item]:
    """Return the images; each is labelled by its own number, or by its folder."""
    label_of = {synset: label for label, synset in enumerate(synsets)}
    if unknown := sorted(set(truth) - set(synsets)):
        raise DataError(
            f"--labels names {len(unknown)} classes that --train_tar does not hold, "
            f"for one {unknown[0]}: are both of ILSVRC 2012?"
        )
    with open_tar(path) as file:
        found = [member for member, _ in members(file, path)]
    if len(found) != len(truth):
        raise DataError(
            f"{path} holds {len(found)} images, but --labels {len(truth)} labels: "
            "are both as downloaded?"
        )
    items = [
        _item(member, 0, label_of[synset_of(member.name, truth, path)])
        for member in found
    ]
    require_unique({path: items}, path)
    return items


def synset_of(name: str, truth: Sequence[str], path: str) -> str:
    """Return the synset of a validation image.

    Its number is its line in the labels. Whoever sorts images into folders of their
    synsets, or writes it behind the number, says it again.
    """
    folder, _, file = name.rpartition("/")
    numbered = _VALIDATION_NAME.fullmatch(file)
    said = {
        "its folder": folder.rpartition("/")[2],
        "its name": (numbered and numbered[2]) or "",
    }
    if numbered:
        number = int(numbered[1])
        if not 1 <= number <= len(truth):
            raise DataError(
                f"{path} holds {name}, but --labels has {len(truth)} lines: are both "
                "as downloaded?"
            )
        said["--labels"] = truth[number - 1]
    synsets = {by: one for by, one in said.items() if re.fullmatch(SYNSET, one)}
    if len({*synsets.values()}) > 1:
        reasons = ", ".join(f"{one} by {by}" for by, one in synsets.items())
        raise DataError(
            f"{name} in {path} has two labels ({reasons}): which of them is right?"
        )
    for synset in synsets.values():
        if synset in truth:
            return synset
    raise DataError(
        f"{path} holds {name}, which tells no label: neither a number "
        "(ILSVRC2012_val_00000001.JPEG) nor a folder that --labels knows"
    )


def _item(member: tarfile.TarInfo, begin: int, label: int) -> Item:
    """Return the image of a tar file that itself begins at a byte."""
    name = member.name.rpartition("/")[2]
    return Item(name, label, begin + member.offset_data, member.size)


def read_truth(path: str) -> Truth:
    """Read the devkit or a text file; the content tells which it is.

    Raises:
      DataError: it is neither, or damaged.
    """
    with open_tar(path) as file:
        if tarfile.is_tarfile(file):
            file.seek(0)
            return _read_devkit(file, path)
        file.seek(0)
        lines = _text(file.read(_MOST_BYTES)).split()
    if not lines or not all(re.fullmatch(SYNSET, line) for line in lines):
        raise DataError(
            f"{path} is neither ILSVRC2012_devkit_t12.tar.gz nor a text file of one "
            "synset (n01440764) a line: name one of them with --labels"
        )
    return Truth(lines, {})


def _text(content: bytes) -> str:
    """Decode what an editor wrote, with or without a byte order mark."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "replace")


def _read_devkit(file: IO[bytes], path: str) -> Truth:
    contents = {}
    try:
        with tarfile.open(fileobj=file, mode="r:*") as tar:
            for member in tar:
                for wanted in (_META, _GROUND_TRUTH):
                    if member.name.endswith(wanted) and member.isfile():
                        contents[wanted] = _extract(tar, member)
        synset_of, words = _read_meta(contents[_META])
        numbers = [int(line) for line in contents[_GROUND_TRUTH].split()]
        return Truth([synset_of[number] for number in numbers], words)
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError, TypeError) as e:
        raise DataError(
            f"{path} is not a whole ILSVRC2012_devkit_t12.tar.gz, with {_META} and "
            f"{_GROUND_TRUTH} ({type(e).__name__}): download it again"
        ) from None


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _MOST_BYTES:
        raise ValueError(member.name)
    content = tar.extractfile(member)
    return content.read() if content else b""


def _read_meta(content: bytes) -> tuple[dict[int, str], dict[str, str]]:
    """Read ILSVRC2012_ID -> synset, and synset -> words, of all in meta.mat."""
    extras.require("scipy", task=f"the development kit's {_META}")
    import scipy.io

    synsets = scipy.io.loadmat(io.BytesIO(content))["synsets"].ravel()
    synset_of = {
        int(one["ILSVRC2012_ID"].item()): str(one["WNID"].item()) for one in synsets
    }
    words = {str(one["WNID"].item()): str(one["words"].item()) for one in synsets}
    return synset_of, words
