"""Folders of images, one a class, as torchvision and timm read them."""

import dataclasses
import os
from collections.abc import Iterator, Mapping

from input_pipeline.errors import DataError
from input_pipeline.preparation.jpeg import Jpeg, is_image, to_rgb_jpeg
from input_pipeline.preparation.plan import (
    MAX_SHARDS,
    Class,
    Item,
    Plan,
    Split,
    shuffled,
)
from input_pipeline.records import CHUNK_RECORDS

# The folders that mean a split, if they are there beside train/.
SPLIT_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}
_READ = ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm"
# They would be overlooked; so they are bad images.
_NOT_READ = ".heic .heif .avif .jp2 .jxl .tga .psd .ico"
# A file named so must be an image that can be used; any other file is looked into.
_SUFFIXES = frozenset(f"{_READ} {_NOT_READ}".split())
# Long reads, and still enough files to shuffle and to share among hosts.
_SHARD_BYTES = 150 << 20
_LEAST_SHARDS = 16


@dataclasses.dataclass(frozen=True)
class Folder:
    """Images by their path below a folder."""

    root: str

    def load(self, item: Item) -> Jpeg:
        """Read one file; raises BadImageError or DataError."""
        path = self.describe(item)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        return to_rgb_jpeg(data)

    def describe(self, item: Item) -> str:
        """Return the path of the file."""
        return os.path.join(self.root, item.filename)


@dataclasses.dataclass
class _Found:
    """The images of each class of one split, and how many files were none."""

    images: dict[str, list[tuple[str, int]]]
    others: int = 0


def plan(
    source: str, *, shards: int | None = None, validation_fraction: float = 0.0
) -> tuple[Plan, int]:
    """Plan a dataset of all images below the class folders.

    Args:
      source: holds the class folders; or train/ and perhaps validation/ (or val/) and
        test/, which hold them.
      shards: files of the training split; see `default_shards`.
      validation_fraction: of the images of each class, to be held out of the training
        split where there is no validation folder. Below 1; 0 holds out none.

    Returns:
      The plan, its classes in the order of their names; and the number of files that
      were skipped because they are no images, or in no class folder.

    Raises:
      DataError: no such folders, or folders that cannot be read or are empty; classes
        that the training split lacks.
    """
    if not os.path.isdir(source):
        raise DataError(f"there is no folder {source}: name one with --source")
    found = {split: _scan(path) for split, path in _split_folders(source).items()}
    classes = sorted(found["train"].images)
    _check_classes(found, source)
    items = {split: _items(one.images, classes, source) for split, one in found.items()}
    if validation_fraction:
        _hold_out(items, validation_fraction)
    splits = {}
    for split, of_split in items.items():
        count = shards if split == "train" else None
        if count is None:
            count = default_shards(of_split)
        splits[split] = Split(Folder(source), shuffled(of_split), count)
    name = os.path.basename(os.path.abspath(source)) or "imagefolder"
    both = tuple(Class(_text(one), _text(one)) for one in classes)
    return Plan(_text(name), both, splits), sum(one.others for one in found.values())


def default_shards(items: list[Item]) -> int:
    """Return how many make 150 MB each; but 16, if each then has 16 images."""
    by_size = -(-sum(item.size for item in items) // _SHARD_BYTES)
    by_number = min(_LEAST_SHARDS, len(items) // CHUNK_RECORDS)
    return min(max(1, by_size, by_number), len(items), MAX_SHARDS)


def _text(name: str) -> str:
    """Return a folder's name that need not be UTF-8, with its odd bytes written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _split_folders(source: str) -> dict[str, str]:
    """Return the folders of class folders by split."""
    names = [entry.name for entry in _entries(source) if _is_folder(entry)]
    known = [name for name in SPLIT_FOLDERS if name in names]
    if "train" not in known or (known == ["train"] and len(names) > 1):
        return {"train": source}
    if len(known) < len(names):
        other = min(name for name in names if name not in SPLIT_FOLDERS)
        raise DataError(
            f"{source} holds the splits {', '.join(known)} and {other}: move {other} "
            "elsewhere, or if all are classes, into a folder train"
        )
    if "val" in known and "validation" in known:
        raise DataError(f"{source} holds val and validation: move one elsewhere")
    return {SPLIT_FOLDERS[name]: os.path.join(source, name) for name in known}


def _scan(folder: str) -> _Found:
    found = _Found({})
    for entry in _entries(folder):
        if not _is_folder(entry):
            found.others += 1
            continue
        images = []
        for path, size, usable in _walk(entry.path, {_identity(folder)}):
            if usable:
                images.append((path, size))
            else:
                found.others += 1
        if not images:
            raise DataError(
                f"the class folder {entry.path} holds no image: fill it or remove it"
            )
        found.images[entry.name] = images
    if not found.images:
        raise DataError(
            f"{folder} holds no class folders: --source needs DIR/CLASS/IMAGE, or "
            "DIR/train/CLASS/IMAGE and DIR/validation/CLASS/IMAGE"
        )
    return found


def _walk(folder: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, int, bool]]:
    """Yield (path, bytes, is it an image) of all files at any depth.

    Links are followed, but not to a folder that contains them.
    """
    here = _identity(folder)
    if here in above:
        return
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from _walk(entry.path, above | {here})
        else:
            yield entry.path, entry.stat().st_size, _is_image_file(entry)


def _is_image_file(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file():
        return False  # a pipe or a socket
    if os.path.splitext(entry.name)[1].lower() in _SUFFIXES:
        return True
    try:
        with open(entry.path, "rb") as file:
            return is_image(file)
    except OSError as error:
        raise DataError(f"cannot read {entry.path}: {error.strerror}") from None


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what a folder holds but for hidden things, in the order of the names."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from None
    return sorted(visible, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a DataError if it is a dead link."""
    try:
        entry.stat()
    except OSError as error:
        raise DataError(
            f"cannot read {entry.path}, a link perhaps: {error.strerror}"
        ) from None
    return entry.is_dir()


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _check_classes(found: Mapping[str, _Found], source: str) -> None:
    known = found["train"].images
    for split, one in found.items():
        if unknown := sorted(set(one.images) - set(known)):
            raise DataError(
                f"{source} has {len(unknown)} classes in {split} that are not in train "
                f"({', '.join(unknown[:3])}): move them, or add them to train"
            )


def _items(
    images: Mapping[str, list[tuple[str, int]]], classes: list[str], source: str
) -> list[Item]:
    return [
        Item(os.path.relpath(path, source), label, 0, size)
        for label, name in enumerate(classes)
        for path, size in images.get(name, [])
    ]


def _hold_out(items: dict[str, list[Item]], fraction: float) -> None:
    """Move a fraction of each class from training to validation; one image stays."""
    if not 0 < fraction < 1:
        raise DataError(f"--validation_fraction is {fraction}: choose 0 up to below 1")
    if "validation" in items:
        raise DataError(
            "there is a validation folder already: leave out --validation_fraction"
        )
    by_class: dict[int, list[Item]] = {}
    for item in items["train"]:
        by_class.setdefault(item.label, []).append(item)
    kept, held = [], []
    for of_class in by_class.values():
        count = min(round(len(of_class) * fraction), len(of_class) - 1)
        mixed = shuffled(of_class)
        held += mixed[:count]
        kept += mixed[count:]
    if not held:
        raise DataError(
            f"--validation_fraction {fraction} of so few images is none: choose more"
        )
    items.update(train=kept, validation=held)
