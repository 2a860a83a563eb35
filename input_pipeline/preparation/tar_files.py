"""Images in tar files, which are read in place and never extracted."""

import dataclasses
import io
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from input_pipeline import dataset_info
from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders.folder_names import is_junk
from input_pipeline.preparation.jpeg import (
    BadImageError,
    Jpeg,
    require_size,
    to_rgb_jpeg,
    to_rgb_jpegs,
)
from input_pipeline.preparation.plan import Item

MARK, MARK_AT = b"ustar", 257  # in the block before a file, and its place there


@dataclasses.dataclass(frozen=True)
class Tar:
    """Images by their byte in a tar file, or in tar files within it.

    Attributes:
      path: of the tar file.
      inner: the folder in it from which images are named.
    """

    path: str
    inner: str = ""

    def load(self, item: Item) -> Jpeg:
        """Read one image; raises BadImageError or DataError."""
        return to_rgb_jpeg(self.read(item))

    def convert(self, files: Sequence[bytes]) -> list[Jpeg | BadImageError]:
        """Do what `load` does with files that were read."""
        return to_rgb_jpegs(files)

    def read(self, item: Item) -> bytes:
        """Return the bytes of one image; raises BadImageError or DataError."""
        require_size(item.size)
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(item.offset)
                return _read(file, item.size)
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}") from None

    def describe(self, item: Item) -> str:
        """Return the tar file and the name in it."""
        return f"{posixpath.join(self.inner, item.filename)} in {self.path}"


def _read(file: io.FileIO, size: int) -> bytes:
    """Return so many bytes, fewer where the file ends, without a buffer of them."""
    data = file.read(size)
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def open_tar(path: str) -> IO[bytes]:
    """Open a file; a DataError if it is none, or cannot be read."""
    dataset_info.require_file(path, "name the file itself")
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def members(
    file: IO[bytes], name: str, *, on_junk: Callable[[], object] = lambda: None
) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yield the files in a tar file, each with its content.

    Args:
      file: the tar file, which may lie in another one.
      name: of it, for messages.
      on_junk: called for each file that a system has left there.

    Raises:
      DataError: it is damaged or compressed, or holds links.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while member := tar.next():
                # A million of them take a gigabyte.
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                if member.isdir():
                    continue
                if any(map(is_junk, parts_of(member.name))):
                    on_junk()
                    continue
                _require_plain(member, name)
                content = tar.extractfile(member)
                if content is not None:
                    yield member, content
            # tarfile takes a damaged header, or none, for the end.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end of the archive")
            _require_end(file, name)
    except tarfile.TarError:
        raise DataError(
            f"{name} is damaged, cut off, or no uncompressed tar file: "
            "download it again, and do not compress it"
        ) from None


def _require_plain(member: tarfile.TarInfo, name: str) -> None:
    if member.issparse():
        raise DataError(
            f"{member.name} in {name} is stored with holes: pack it anew, without "
            "tar --sparse"
        )
    if not member.isfile():
        raise DataError(
            f"{member.name} in {name} is a link, or no plain file: pack the files "
            "themselves (tar --dereference --hard-dereference)"
        )


def _require_end(file: IO[bytes], name: str) -> None:
    """Refuse archives that were written one behind the other: one alone is read."""
    while block := file.read(tarfile.BLOCKSIZE):
        if block.strip(b"\0"):
            if block[MARK_AT:].startswith(MARK):
                raise DataError(
                    f"{name} holds several archives, one behind the other, of which "
                    "the first alone would be read: unpack it with tar "
                    "--ignore-zeros"
                )
            break


def parts_of(name: str) -> list[str]:
    """Return the folders and the file of a member, but for "." as in "./x"."""
    return [part for part in name.split("/") if part not in ("", ".", "..")]
