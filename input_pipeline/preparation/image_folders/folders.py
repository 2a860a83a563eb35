"""What lies in a folder of images, at any depth: images, other files, folders."""

import collections
import dataclasses
import os
import stat
from collections.abc import Iterable, Iterator

from input_pipeline import image_formats
from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders.folder_names import is_copy, is_junk
from input_pipeline.preparation.jpeg import is_image

# A file named so must be an image that can be used: else it would be overlooked. Any
# other file is looked into, but for what stands beside images by the million.
_SUFFIXES = frozenset(image_formats.SUFFIXES + image_formats.OTHER_SUFFIXES)
_NO_IMAGES = frozenset((".xml", ".txt", ".csv", ".tsv", ".json", ".html", ".md"))


@dataclasses.dataclass(eq=False)
class Folder:
    """A real folder. Links to it lead to this very object, so there may be circles.

    Attributes:
      images: name and bytes of each image in it.
      others: names of other files.
      junk: how many files and folders of the system it holds besides.
      folders: those in it, by name.
      links: the names among them that are links.
    """

    images: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)
    junk: int = 0
    folders: "dict[str, Folder]" = dataclasses.field(default_factory=dict)
    links: set[str] = dataclasses.field(default_factory=set)

    def all(self, *, above: "Iterable[Folder]" = ()) -> "Iterator[tuple[str, Folder]]":
        """Yield itself and all folders below, each once, with "" or their "a/b/".

        Links come last: what is reached without one keeps its own name.

        Args:
          above: folders that contain this one; links to them lead nowhere.
        """
        seen = set(above)
        waiting: collections.deque[tuple[str, Folder]] = collections.deque()
        waiting.append(("", self))
        while waiting:
            path, folder = waiting.popleft()
            if folder in seen:
                continue
            seen.add(folder)
            yield path, folder
            for name, one in folder.folders.items():
                add = waiting.append if name in folder.links else waiting.appendleft
                add((f"{path}{name}/", one))


def read(path: str) -> Folder:
    """Read a folder and all below, each real one once.

    Raises:
      DataError: a folder or a file that cannot be read.
    """
    status = os.stat(path)
    root = Folder()
    known = {(status.st_dev, status.st_ino): root}
    waiting = collections.deque([(path, root)])
    while waiting:
        here, folder = waiting.popleft()
        for entry in _entries(here):
            if is_junk(entry.name):
                folder.junk += 1
                continue
            status = _status(entry)
            if stat.S_ISDIR(status.st_mode):
                key = status.st_dev, status.st_ino
                if key not in known:
                    known[key] = Folder()
                    waiting.append((entry.path, known[key]))
                folder.folders[entry.name] = known[key]
                if entry.is_symlink():
                    folder.links.add(entry.name)
            elif is_copy(entry.name):
                folder.junk += 1
            elif _is_image_file(entry, status):
                folder.images.append((entry.name, status.st_size))
            else:
                folder.others.append(entry.name)
    return root


def is_image_name(name: str) -> bool | None:
    """Whether a file has to be an image by its name; None if its content tells."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _SUFFIXES or suffix in _NO_IMAGES:
        return suffix in _SUFFIXES
    return None


def _entries(path: str) -> list[os.DirEntry[str]]:
    """Return what a folder holds, in the order of the names."""
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read the folder {path}: {error.strerror}") from None


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    """Return what an entry or its target is; a DataError if it is a dead link."""
    try:
        return entry.stat()
    except OSError as error:
        raise DataError(
            f"cannot read {entry.path}, a link perhaps: {error.strerror}"
        ) from None


def _is_image_file(entry: os.DirEntry[str], status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False  # a pipe or a socket
    by_name = is_image_name(entry.name)
    if by_name is not None:
        return by_name
    try:
        with open(entry.path, "rb") as file:
            return is_image(file)
    except OSError as error:
        raise DataError(f"cannot read {entry.path}: {error.strerror}") from None
