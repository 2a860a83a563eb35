"""Images to classify: files, those of a folder, records; and why one is unusable."""

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import tensorflow as tf

from common import files, gfiles, storage_errors
from common.console import count, escaped, say
from common.errors import UserError, first_line
from input_pipeline import image_formats, jpeg_warnings, records
from input_pipeline.images import exif
from input_pipeline.preparation.image_folders.folder_names import is_junk
from input_pipeline.preprocess import MAX_PIXELS
from input_pipeline.records import IMAGENET, Fields

Parse = Callable[[tf.Tensor], dict[str, tf.Tensor]]

# No photo is larger: MAX_PIXELS in a PNG that nothing has compressed.
MOST_BYTES = 2**29
_FRAMING = 8 + 4 + 4  # around a record: its length, and two CRCs
_SUFFIXES = image_formats.SUFFIXES + image_formats.OTHER_SUFFIXES


class Image(NamedTuple):
    """An encoded image.

    Attributes:
      name: of its file, as its record has it if it is in one.
      encoded: what the file holds.
      label: the record's own, None where nobody knows.
      place: where to find it.
      is_record: whether it is taken as it is stored; a file is seen upright.
    """

    name: str
    encoded: bytes
    label: int | None
    place: str
    is_record: bool = False

    def served(self) -> bytes:
        """Return what a SavedModel is to be handed, which turns what says so."""
        if self.is_record:
            return exif.without_orientation(self.encoded)
        return self.encoded


class Unusable(NamedTuple):
    """What cannot be classified, and why."""

    place: str
    reason: str


def why_unusable(encoded: bytes) -> str | None:
    """Return why bytes are no JPEG or PNG to decode, None if they seem to be one."""
    if not encoded:
        return "it is empty"
    what = image_formats.describe(encoded)
    if what == "a PNG":
        return _why_too_large(_png_sides(encoded))
    if what in image_formats.IN_RECORDS:
        return None
    if what is not None:
        return f"it is {what}, which no network here takes: save it as JPEG or PNG"
    return "it is no image: neither a JPEG nor a PNG"


def why_not_decoded(encoded: bytes) -> str:
    """Return why the decoding of what seems to be a JPEG or PNG has failed."""
    is_png = encoded.startswith(image_formats.PNG)
    sides = _png_sides(encoded) if is_png else _jpeg_sides(encoded)
    if why := _why_too_large(sides):
        return why
    if 1 in sides and _is_sound(encoded):  # earlier exports crop it to nothing
        return (
            f"it is {sides[0]} x {sides[1]} pixels, too thin for this SavedModel of a "
            "version before; export again"
        )
    part = "data" if 0 not in sides else "header"
    return f"its {'PNG' if is_png else 'JPEG'} {part} is damaged or cut off"


def _png_sides(encoded: bytes) -> tuple[int, int]:
    """Return height and width as the header has them, zeros where there is none."""
    width, height = struct.unpack(">II", encoded[16:24].ljust(8, b"\0"))
    return height, width


def _jpeg_sides(encoded: bytes) -> tuple[int, int]:
    try:
        _, shape = jpeg_warnings.listen(lambda: tf.io.extract_jpeg_shape(encoded))
    except tf.errors.OpError:
        return 0, 0
    height, width, _ = shape.numpy().tolist()
    return height, width


def _is_sound(encoded: bytes) -> bool:
    try:
        jpeg_warnings.listen(lambda: tf.io.decode_image(encoded, channels=3))
    except tf.errors.OpError:
        return False
    return True


def _why_too_large(sides: tuple[int, int]) -> str | None:
    if sides[0] * sides[1] <= MAX_PIXELS:
        return None
    return f"its header claims {sides[0]} x {sides[1]} pixels, too many to load"


# Files and folders


def read_files(paths: Iterable[str]) -> Iterator[Image | Unusable]:
    """Read image files, in their order, and those in folders, by name.

    Args:
      paths: local, or files in a bucket. Of a folder it is said how many images it
        holds; hidden files and what does not look like an image do not count.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _read_folder(path)
        else:
            yield _read(path)


def _read_folder(folder: str) -> Iterator[Image | Unusable]:
    errors: list[OSError] = []
    found = list(_walk(folder, errors))
    images = [path for path in found if _looks_like_image(path)]
    others = len(found) - len(images)
    line = f"{folder}: {count(len(images), 'image')}"
    say(escaped(line + f", {count(others, 'other file')} left out" * bool(others)))
    if not images and not errors:
        yield Unusable(_shown(folder), "no image lies in this folder")
    for error in errors:
        yield Unusable(_shown(error.filename), _words(error, error.filename))
    for path in images:
        yield _read(path)


def _walk(folder: str, errors: list[OSError]) -> Iterator[str]:
    """Yield the paths of all files below a folder, of each folder once."""
    seen = set()
    for here, folders, names in os.walk(
        folder, followlinks=True, onerror=errors.append
    ):
        status = os.stat(here)
        place = status.st_dev, status.st_ino
        if place in seen:  # a link has led there
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not is_junk(name))
        yield from (f"{here.rstrip('/')}/{name}" for name in sorted(names))


def label_by_folder(
    images: Iterable[Image | Unusable], names: Sequence[str], first: int
) -> Iterator[Image | Unusable]:
    """Give an image that has no label the class whose name its folder has.

    Args:
      images: files.
      names: of the classes. One that two have says nothing.
      first: the label of the first class.
    """
    numbers = {n: i for i, n in enumerate(names, first) if names.count(n) == 1}
    for image in images:
        if isinstance(image, Image) and image.label is None:
            # Whole: a name alone is of the folder that the command runs in.
            folder = os.path.basename(os.path.dirname(os.path.abspath(image.place)))
            image = image._replace(label=numbers.get(folder))
        yield image


def _looks_like_image(path: str) -> bool:
    if is_junk(os.path.basename(path)):
        return False
    if path.lower().endswith(_SUFFIXES):
        return True
    try:
        if files.kind(path, follow_links=True) != files.FILE:
            return False
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError:
        return False
    return image_formats.describe(head) is not None


def _read(path: str) -> Image | Unusable:
    try:
        encoded = _content(path)
    except (UserError, *gfiles.Errors) as error:
        return Unusable(_shown(path), _words(error, path))
    place = _shown(path)
    encoded, why = _as_in_records(encoded)
    if why := why or why_unusable(encoded):
        return Unusable(place, why)
    return Image(place, encoded, None, place)


def _as_in_records(encoded: bytes) -> tuple[bytes, str | None]:
    """Return what prepare would store of a file that the SavedModel does not read.

    So the network sees what it has learnt, upright. JPEGs and PNGs are left to the
    SavedModel.

    Returns:
      The image, and why it cannot be converted; None if it can, or need not be.
    """
    what = image_formats.describe(encoded)
    if what not in image_formats.IN_FILES or what in image_formats.IN_RECORDS:
        return encoded, None
    # Pillow takes a tenth of a second to import, and few need it.
    from input_pipeline.preparation.jpeg import BadImageError, to_rgb_jpeg

    try:
        seen = to_rgb_jpeg(encoded, apply_orientation=True, on_white=True)
        return seen.encoded, None
    except BadImageError as error:
        return encoded, f"it is {what} that {error}"


def _content(path: str) -> bytes:
    """Return what a file holds; of another name than UTF-8, too, if it is local."""
    if what := gfiles.what_no_file(path):
        raise UserError(f"it is a {what}")
    local = gfiles.local_path(path)
    if local is None:
        return gfiles.read_bytes(path)
    with open(local, "rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise UserError(f"it is larger than {MOST_BYTES >> 20} MiB, no photo")
        return file.read(MOST_BYTES)


def _words(error: BaseException, path: str) -> str:
    """Return what is wrong with a path, without the path."""
    if isinstance(error, tf.errors.OpError) and storage_errors.is_remote(path):
        return storage_errors.why_unreadable(path, error)
    words = getattr(error, "strerror", None) or first_line(error)
    return words.removeprefix(f"{path}; ")


def _shown(path: str) -> str:
    """Return a path as text that can be printed anywhere."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# Records


def read_tfrecords(
    pattern: str, fields: Fields = IMAGENET
) -> Iterator[Image | Unusable]:
    """Read records.

    Args:
      pattern: of the paths of TFRecord files, or one of these, local or in a bucket.
      fields: what they call what is read of them.

    Raises:
      UserError: there are none, or they cannot be looked for.
    """
    try:
        is_path = tf.io.gfile.exists(pattern)  # with a [ in it, perhaps
        paths = [pattern] if is_path else sorted(tf.io.gfile.glob(pattern))
    except tf.errors.OpError as error:
        what = f"cannot look for {pattern}"
        raise storage_errors.cannot_read(pattern, error, what=what) from error
    if not paths:
        raise UserError(f"no TFRecords at {pattern}")
    for path in paths:
        try:
            yield from _read_shard(path, fields)
        except (UserError, *gfiles.Errors) as error:
            yield Unusable(path, _words(error, path))


def _read_shard(path: str, fields: Fields) -> Iterator[Image | Unusable]:
    if tf.io.gfile.isdir(path):
        files_in_it = f"{path.rstrip('/')}/*"
        raise UserError(f"it is a folder: name its files, such as '{files_in_it}'")
    if what := gfiles.what_no_file(path):
        raise UserError(f"it is a {what}")
    number, framed, whole = 0, *_framed(path)
    parse = parser(fields)
    try:
        # Not more: TensorFlow would allocate whatever length a broken frame tells.
        contents = tf.data.TFRecordDataset(path).take(framed)
        for serialized in contents:
            yield _read_record(parse, fields, serialized, path, number)
            number += 1
    except tf.errors.DataLossError:
        whole = False
    if not whole:
        raise UserError(_why_not_whole(path, number))
    if not number:
        raise UserError("it is empty")


def _why_not_whole(path: str, good_records: int) -> str:
    with tf.io.gfile.GFile(path, "rb") as file:
        if file.read(2) == b"\x1f\x8b":
            return "it is compressed: unpack it with gunzip"
    return (
        "it is not a whole TFRecord file, it is damaged or cut off after "
        f"{count(good_records, 'good record')}: copy it again"
    )


def _framed(path: str) -> tuple[int, bool]:
    """Return how many records the lengths in a file speak of, and if they fill it."""
    size = tf.io.gfile.stat(path).length
    place = number = 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while place + _FRAMING <= size:
            file.seek(place)
            (length,) = struct.unpack("<Q", file.read(8))
            if place + _FRAMING + length > size:
                break
            place += _FRAMING + length
            number += 1
    return number, place == size


def parser(fields: Fields) -> Parse:
    """Return the parser of a record, compiled: it is called for each."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        return records.parse(serialized, fields, filename=True)

    return parse


def _read_record(
    parse: Parse, fields: Fields, serialized: tf.Tensor, path: str, number: int
) -> Image | Unusable:
    where = f"{os.path.basename(path)}, record {number}"
    try:
        example = parse(serialized)
    # TensorFlow puts the record into its message, which need not be text.
    except (tf.errors.OpError, UnicodeDecodeError):
        return Unusable(
            where,
            f"it is no tf.train.Example with the fields {fields.image} and "
            f"{fields.label}",
        )
    encoded, label = content(example["encoded"]), int(example["label"])
    name = file_name(content(example["filename"]))
    place = f"{where} ({name})" if name else where
    if not encoded:
        return Unusable(place, f"the field {fields.image} is missing or empty")
    if why := why_unusable(encoded):
        return Unusable(place, f"the image cannot be used: {why}")
    known = None if label == records.MISSING_LABEL else label
    return Image(name or where, encoded, known, place, is_record=True)


def content(scalar: tf.Tensor) -> bytes:
    """Return the bytes of a string."""
    return bytes(scalar.numpy())


def file_name(name: bytes) -> str:
    """Return the file name in a record as text, whatever its bytes are."""
    return name.decode("utf-8", "backslashreplace")
