"""What --source may be: a folder of images, or a tar file of one."""

import dataclasses
import os
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from typing import IO, BinaryIO, cast

from common.console import named
from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders import folders
from input_pipeline.preparation.image_folders.folder_names import is_copy
from input_pipeline.preparation.jpeg import (
    BadImageError,
    Jpeg,
    is_image,
    require_size,
    to_rgb_jpeg,
    to_rgb_jpegs,
)
from input_pipeline.preparation.plan import Item, Pixels
from input_pipeline.preparation.tar_files import (
    MARK,
    MARK_AT,
    Tar,
    members,
    open_tar,
    parts_of,
)

# What begins a compressed file, and how to unpack it.
_UNTAR = "mkdir {folder} && tar -xf {path} -C {folder}"
_COMPRESSED = {
    b"\x1f\x8b": _UNTAR,
    b"BZh": _UNTAR,
    b"\xfd7zXZ": _UNTAR,
    b"\x28\xb5\x2f\xfd": _UNTAR,
    b"PK\3\4": "unzip -q {path} -d {folder}",
    b"7z\xbc\xaf\x27\x1c": "7z x {path} -o{folder}",
    b"Rar!": "unrar x {path} {folder}/",
}


@dataclasses.dataclass(frozen=True)
class Folder:
    """Images by their path below a folder."""

    root: str

    def load(self, item: Item) -> Jpeg:
        """Read one file; raises BadImageError or DataError."""
        return to_rgb_jpeg(self.read(item))

    def convert(self, files: Sequence[bytes]) -> list[Jpeg | BadImageError]:
        """Do what `load` does with files that were read."""
        return to_rgb_jpegs(files)

    def read(self, item: Item) -> bytes:
        """Return the bytes of one file; raises BadImageError or DataError."""
        path = self.describe(item)
        try:
            with open(path, "rb") as file:
                require_size(os.fstat(file.fileno()).st_size)
                return file.read()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None

    def describe(self, item: Item) -> str:
        """Return the path of the file."""
        return os.path.join(self.root, item.filename)


@dataclasses.dataclass(frozen=True)
class Opened:
    """A source of images.

    Attributes:
      name: of the data set.
      root: what it holds.
      pixels: reads its images.
      offsets: where an image begins in a tar file, by its path.
    """

    name: str
    root: folders.Folder
    pixels: Pixels
    offsets: Mapping[str, int]


def open_source(path: str) -> Opened:
    """Return what a path holds.

    Raises:
      DataError: there is nothing, or nothing that can be read in place.
    """
    if tar := tar_of(path):
        _require_tar(tar)
        root, offsets = read_tar(tar)
        return _below(path, tar, root, offsets)
    _require_folder(path)
    name = os.path.basename(os.path.abspath(path)) or "imagefolder"
    return Opened(name, folders.read(path), Folder(path), {})


def tar_of(path: str) -> str | None:
    """Return the tar file of a source: itself, or one that it names a folder in."""
    while path and not os.path.lexists(path):
        path = os.path.dirname(path)
    return path if os.path.isfile(path) else None


def _below(
    path: str, tar: str, root: folders.Folder, offsets: Mapping[str, int]
) -> Opened:
    """Return a folder in a tar file, whose images are named from there."""
    inner = "/".join(parts_of(path[len(tar) :]))
    for name in parts_of(inner):
        if name not in root.folders:
            raise DataError(
                f"{tar} holds no folder {inner}: it holds {named(root.folders)}"
            )
        root = root.folders[name]
    begin = f"{inner}/" if inner else ""
    below = {
        name.removeprefix(begin): at
        for name, at in offsets.items()
        if name.startswith(begin)
    }
    name = os.path.basename(inner) or os.path.splitext(os.path.basename(tar))[0]
    return Opened(name, root, Tar(tar, inner), below)


def _require_folder(source: str) -> None:
    if os.path.isdir(source):
        return
    if "://" in source:
        raise DataError(f"images are read from a disk: copy {source} to one first")
    if os.path.exists(source):
        raise DataError(f"{source} is no folder and no file: name one with --source")
    raise DataError(f"there is no folder {source}: name one with --source")


def _require_tar(path: str) -> None:
    """Refuse a file that is no tar file, with the command that unpacks it."""
    with open_tar(path) as file:
        head = file.read(tarfile.BLOCKSIZE)
    name = os.path.basename(path).partition(".")[0] or "photos"
    folder = shlex.quote(os.path.join(os.path.dirname(path), name))
    for begin, command in _COMPRESSED.items():
        if head.startswith(begin):
            unpack = command.format(path=shlex.quote(path), folder=folder)
            raise DataError(
                f"{path} is compressed, so that it cannot be read in place: unpack it, "
                f"{unpack}, and give --source={folder}"
            )
    if head[MARK_AT:].startswith(MARK) or tarfile.is_tarfile(path):
        return
    raise DataError(f"{path} is a file, and no tar file: name a folder with --source")


def read_tar(path: str) -> tuple[folders.Folder, dict[str, int]]:
    """Return what lies in a tar file as a folder, and where each image begins.

    Raises:
      DataError: it is damaged, or holds links, other tar files, one name twice or names
        that lead out of it.
    """
    root = folders.Folder()
    offsets: dict[str, int] = {}
    seen: set[str] = set()

    def count_junk() -> None:
        root.junk += 1

    with open_tar(path) as file:
        for member, content in members(file, path, on_junk=count_junk):
            name = "/".join(parts_of(member.name))
            _require_inside(member.name, path)
            if name in seen:
                raise DataError(f"{path} holds {name} twice: pack it anew")
            seen.add(name)
            folder = _folder(root, name, seen, path)
            last = name.rpartition("/")[2]
            if last in folder.folders:
                raise _file_and_folder(path, name)
            if is_copy(last):
                folder.junk += 1
            elif _is_image(last, content):
                folder.images.append((last, member.size))
                offsets[name] = member.offset_data
            else:
                folder.others.append(last)
    _sort(root)
    return root, offsets


def _require_inside(name: str, path: str) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise DataError(
            f"{path} holds {name}, which leads out of it: pack the folder anew, "
            "tar -cf photos.tar -C FOLDER ."
        )


def _folder(
    root: folders.Folder, name: str, seen: set[str], path: str
) -> folders.Folder:
    """Return the folder of a member, made if need be."""
    here, above = root, ""
    for part in name.split("/")[:-1]:
        above = f"{above}/{part}".lstrip("/")
        if above in seen:
            raise _file_and_folder(path, above)
        here = here.folders.setdefault(part, folders.Folder())
    return here


def _file_and_folder(path: str, name: str) -> DataError:
    return DataError(f"{path} holds {name} as a file and as a folder: pack it anew")


def _is_image(name: str, content: IO[bytes]) -> bool:
    by_name = folders.is_image_name(name)
    return is_image(cast(BinaryIO, content)) if by_name is None else by_name


def _sort(root: folders.Folder) -> None:
    """Put all that it holds in the order of the names, as a disk's folders are read."""
    for _, folder in root.all():
        folder.images.sort()
        folder.others.sort()
        folder.folders = dict(sorted(folder.folders.items()))
