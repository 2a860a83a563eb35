"""One TFRecord file, looked at record by record: the work of `input_pipeline.validate`.

The file is read once, from begin to end. TensorFlow's reader gives up at a damaged
record; here, that record's length, or else the next offset of dataset_info.json, says
where to go on.
"""

import dataclasses
import functools
import hashlib
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from common import storage_errors
from input_pipeline import image_formats, jpeg_warnings
from input_pipeline.chunks import READ_BYTES, file_from, whole_file
from input_pipeline.dataset_info import require_file
from input_pipeline.errors import DataError
from input_pipeline.images import exif
from input_pipeline.preprocess import MAX_PIXELS, png_shape
from input_pipeline.records import (
    CHUNK_RECORDS,
    IMAGENET,
    MISSING_LABEL,
    ContentDigest,
    Fields,
    ShardInfo,
    parse,
)
from input_pipeline.validation.findings import FaultKind, Findings, Location
from input_pipeline.validation.quick_look import TOGETHER, QuickLook, Sound

# What is kept of a record with an image; sides of 0 where no header could be read. A
# million take 44 MB.
IMAGE = np.dtype(
    [
        ("record", np.int32),
        ("label", np.int64),
        ("height", np.int32),
        ("width", np.int32),
        ("bytes", np.int64),
        ("digest", np.uint64, 2),
    ]
)

# A record is its length, the CRC of that, its data and the CRC of those.
_HEADER = struct.Struct("<QI")
_FRAMING = _HEADER.size + 4
_READ_AHEAD = 16  # records
# On average, of those that are read together: in memory is several times as much.
_RECORD_BYTES = 1 << 20
_NAME_BYTES = 200
_GREY, _CMYK = 1, 4  # components
Add = Callable[[FaultKind, str], None]


class ShardTask(NamedTuple):
    """A shard, the labels that it may hold, and whether to decode its images."""

    path: str
    shard: ShardInfo
    labels: range
    decode: bool
    fields: Fields = IMAGENET


@dataclasses.dataclass(frozen=True)
class ShardReport:
    """What a shard holds.

    Attributes:
      filename: its name.
      findings: what is wrong with it.
      images: IMAGE[n], the records that hold one.
      names: bytes[n], their image/filename.
      size: of the file, in bytes.
    """

    filename: str
    findings: Findings
    images: np.ndarray
    names: np.ndarray
    size: int

    def location(self, row: int, detail: str = "") -> Location:
        """Say where the image of a row is."""
        name = self.names[row].decode(errors="backslashreplace")
        return Location(self.filename, int(self.images["record"][row]), name, detail)


def inspect_shard(task: ShardTask, advance: Callable[[int], None]) -> ShardReport:
    """Read a shard and check every record; `advance` is told of each."""
    findings = Findings()
    images, names = [], []
    size = 0
    try:
        require_file(task.path)
        size = tf.io.gfile.stat(task.path).length
        quick_look = QuickLook(task.fields, decode=task.decode)
        for batch in _Reader(task, size, findings):
            for record in batch.looked_at(quick_look):
                found = _inspect_record(record, task, findings)
                if found is not None:
                    images.append(found[0])
                    names.append(found[1])
            advance(len(batch.contents))
    except tf.errors.NotFoundError:
        location = Location(task.shard.filename, detail=f"there is no {task.path}")
        findings.add(FaultKind.MISSING_FILE, location)
    except (DataError, OSError, tf.errors.OpError) as error:
        why = storage_errors.why_unreadable(task.path, error)
        location = Location(task.shard.filename, detail=why)
        findings.add(FaultKind.UNREADABLE_FILE, location)
    return ShardReport(
        task.shard.filename,
        findings,
        np.array(images, IMAGE),
        np.array(names, np.bytes_),
        size,
    )


class _Record(NamedTuple):
    """A record, its number in the file, and what a quick look has found in it."""

    number: int
    serialized: bytes
    sound: Sound | None


class _Batch(NamedTuple):
    """Records behind one another: the number of the first, and all their bytes."""

    first: int
    contents: list[bytes]
    tensor: tf.Tensor

    def looked_at(self, quick_look: QuickLook) -> Iterator[_Record]:
        """Yield the records."""
        nothing = [None] * len(self.contents)
        sound = quick_look(self.tensor) if len(nothing) == TOGETHER else None
        for within, (content, one) in enumerate(
            zip(self.contents, sound or nothing, strict=True)
        ):
            yield _Record(self.first + within, content, one)


class _Reader:
    """The records of a shard with sound CRCs; notes what is wrong with it."""

    def __init__(self, task: ShardTask, size: int, findings: Findings):
        self._path, self._shard, self._size = task.path, task.shard, size
        self._findings = findings
        self._number = self._offset = 0  # of the next record
        self._reached_end = True
        self._offsets_agree = True
        self._digest = ContentDigest()
        self._digested = 0  # records
        small = size < _RECORD_BYTES * task.shard.records
        self._together = TOGETHER if small else 1

    def __iter__(self) -> Iterator[_Batch]:
        if self._size == 0:
            self._add(FaultKind.EMPTY_FILE)
            return
        together = self._together
        while self._offset < self._size:
            try:
                for tensor in _batches_from(self._path, self._offset, together):
                    yield self._take(tensor)
            except tf.errors.DataLossError:
                if together > 1:  # sound ones before it are lost with it: again, singly
                    together = 1
                    continue
                self._skip_damage()
            else:
                # TensorFlow takes a file cut off behind a record's length for whole.
                if self._offset < self._size:
                    self._skip_damage()
            together = self._together
        if self._reached_end and self._number != self._shard.records:
            listed = f"{self._number}, dataset_info.json says {self._shard.records}"
            self._add(FaultKind.WRONG_COUNT, listed)
        elif self._offsets_agree and self._digested == self._shard.records:
            self._compare_digest()

    def _take(self, tensor: tf.Tensor) -> _Batch:
        """Return the next records, and go on behind them."""
        first, contents = self._number, tensor.numpy().tolist()
        for content in contents:
            self._compare_offset()
            self._digest.add(content)
            self._digested += 1
            self._number += 1
            self._offset += _FRAMING + len(content)
        return _Batch(first, contents, tensor)

    def _add(
        self, kind: FaultKind, detail: str = "", record: int | None = None
    ) -> None:
        self._findings.add(kind, Location(self._shard.filename, record, detail=detail))

    def _compare_offset(self) -> None:
        """Note the first chunk that does not begin where dataset_info.json says."""
        chunk, within = divmod(self._number, CHUNK_RECORDS)
        if within or chunk >= len(self._shard.offsets) or not self._offsets_agree:
            return
        listed = self._shard.offsets[chunk]
        if listed != self._offset:
            self._offsets_agree = False
            begins = f"begins at byte {self._offset}, dataset_info.json says {listed}"
            self._add(FaultKind.WRONG_OFFSETS, begins, self._number)

    def _compare_digest(self) -> None:
        """Note records that are whole, and not those that were described."""
        found = self._digest.hex()
        if self._shard.digest not in ("", found):
            listed = f"their digest is {found}, not {self._shard.digest}"
            self._add(FaultKind.OTHER_RECORDS, listed)

    def _skip_damage(self) -> None:
        """Name the damage, and go to the next record that can be found."""
        length = self._length_at(self._offset)
        if length is None and self._offset + _HEADER.size <= self._size:
            damaged, self._reached_end = self._number, self._to_next_chunk()
            text = "its length does not match its CRC"
            if self._number - damaged != 1:
                last = self._number - 1 if self._reached_end else "the end"
                text += f"; records {damaged} to {last} cannot be looked at"
            self._add(FaultKind.DAMAGED_RECORD, text, damaged)
        elif length is None or self._offset + _FRAMING + length > self._size:
            ends = f"the file ends within it, {self._shard.records} are listed"
            self._add(FaultKind.CUT_OFF_FILE, ends, self._number)
            self._reached_end, self._offset = False, self._size
        else:
            self._add(
                FaultKind.DAMAGED_RECORD,
                "its data do not match their CRC",
                self._number,
            )
            self._number += 1
            self._offset += _FRAMING + length

    def _length_at(self, offset: int) -> int | None:
        """Read the length of the record at a byte; None if none can begin there."""
        with tf.io.gfile.GFile(self._path, "rb") as file:
            file.seek(offset)
            header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        length, crc = _HEADER.unpack(header)
        return length if crc == _masked_crc(header[:8]) else None

    def _to_next_chunk(self) -> bool:
        """Go to the next chunk; to the end of the file if there is none."""
        for chunk in range(self._number // CHUNK_RECORDS + 1, len(self._shard.offsets)):
            offset = self._shard.offsets[chunk]
            beyond = self._offset < offset < self._size
            if beyond and self._length_at(offset) is not None:
                self._number, self._offset = chunk * CHUNK_RECORDS, offset
                return True
        self._offset = self._size
        return False


def _batches_from(path: str, offset: int, size: int) -> Iterator[tf.Tensor]:
    """Return the bytes of the records from a byte on, so many at a time."""
    ahead = _READ_AHEAD // size
    if not offset:
        return iter(whole_file(path).batch(size).prefetch(ahead))
    begin = tf.data.Dataset.from_tensors(tf.constant(offset, tf.int64))
    # Inside a function: see chunks.file_from.
    found = begin.flat_map(lambda at: file_from(tf.constant(path), at, READ_BYTES))
    return iter(found.batch(size).prefetch(ahead))


def _masked_crc(data: bytes) -> int:
    """Compute TFRecord's checksum: CRC-32C, rotated, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _inspect_record(
    record: _Record, task: ShardTask, findings: Findings
) -> tuple[tuple, bytes] | None:
    """Note what is wrong; return an IMAGE and its name, None if there is no image."""
    name = b""

    def add(kind: FaultKind, detail: str = "") -> None:
        text = name.decode(errors="backslashreplace")
        findings.add(kind, Location(task.shard.filename, record.number, text, detail))

    serialized, sound = record.serialized, record.sound
    parsed = _parse(serialized, task.fields) if sound is None else sound[:2]
    features = _features(serialized)
    if features is None:
        if parsed is None:
            add(FaultKind.NOT_AN_EXAMPLE)
            return None
        add(FaultKind.ODD_EXAMPLE)
        features = {}
    # Only a message, so a name of any length must not fill the memory.
    fields = task.fields
    name = (_optional(features, fields.filename, "bytes_list") or b"")[:_NAME_BYTES]
    if parsed is None:
        encoded, label = _unreadable_fields(features, fields, add)
    else:
        encoded, label = _checked_fields(*parsed, features, fields, add)
    if label is not None and label not in task.labels:
        first, last = task.labels.start, task.labels.stop - 1
        add(FaultKind.LABEL_OUTSIDE, f"{label}, not in {first}..{last}")
    if not encoded:
        return None
    if sound is None:
        height, width = _inspect_image(encoded, features, task.decode, add)
    else:
        height, width = sound.height, sound.width
        _inspect_form(encoded, features, sound[2:], add)
    # Of the hashes that no two images share by chance, what processors have ops for.
    digest = hashlib.sha256(encoded).digest()[:16]
    label = int(MISSING_LABEL) if label is None else label
    row = (
        record.number,
        label,
        height,
        width,
        len(encoded),
        struct.unpack("<QQ", digest),
    )
    return row, name


def _parse(serialized: bytes, fields: Fields) -> tuple[bytes, int] | None:
    """Read image and label as training does, None where it cannot."""
    try:
        example: Any = _parser(fields)(tf.constant(serialized))
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        return None
    return example["encoded"].numpy(), int(example["label"])


@functools.cache
def _parser(fields: Fields) -> Callable[[tf.Tensor], Any]:
    """Return `parse` as a graph: op by op it would take as long as to decode."""
    read = tf.function(lambda serialized: parse(serialized, fields), autograph=False)
    return read.get_concrete_function(tf.TensorSpec([], tf.string))


def _features(serialized: bytes) -> Any:
    """Return all features by name, as other tools read them, None where they cannot."""
    try:
        return tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        return None


def _checked_fields(
    encoded: bytes, label: int, features: Any, fields: Fields, add: Add
) -> tuple[bytes, int | None]:
    """Return image and label, if there are some, as training reads them."""
    if not encoded:
        is_there = fields.image in features
        text = f"{fields.image} holds no bytes" if is_there else f"no {fields.image}"
        add(FaultKind.BAD_FIELD, text)
    if label == MISSING_LABEL:
        add(FaultKind.BAD_FIELD, f"no {fields.label}")
        return encoded, None
    return encoded, label


def _unreadable_fields(
    features: Any, fields: Fields, add: Add
) -> tuple[bytes | None, int | None]:
    """Say why training cannot read an Example; return what can be looked at."""
    label = _required(features, fields.label, "int64_list", add)
    encoded = _required(features, fields.image, "bytes_list", add)
    if label is not None and encoded is not None:
        add(FaultKind.NOT_AN_EXAMPLE, "TensorFlow cannot read it, other tools can")
    return encoded, label


def _required(features: Any, field: str, kind: str, add: Add) -> Any:
    """Return a field's one value, or None."""
    if field not in features or features[field].WhichOneof("kind") is None:
        add(FaultKind.BAD_FIELD, f"no {field}")
        return None
    values = getattr(features[field], kind).value
    if len(values) != 1:
        add(FaultKind.BAD_FIELD, f"{field} does not hold one value in a {kind}")
        return None
    return values[0]


def _optional(features: Any, field: str, kind: str) -> Any:
    """Return the first value of a field that training does not read, or None."""
    values = getattr(features[field], kind).value if field in features else ()
    return values[0] if values else None


def _inspect_image(
    encoded: bytes, features: Any, decode: bool, add: Add
) -> tuple[int, int]:
    """Return height and width, zeros if they cannot be told."""
    if not image_formats.is_in_records(encoded):
        what = image_formats.describe(encoded) or "no image that is known here"
        add(FaultKind.NOT_A_JPEG, f"it is {what}")
        return 0, 0
    try:
        height, width, components = _header(encoded)
    except tf.errors.InvalidArgumentError:
        add(FaultKind.BAD_HEADER, "")
        return 0, 0
    if height * width > MAX_PIXELS:
        add(FaultKind.TOO_LARGE, f"{height} x {width} pixels")
    elif decode:
        _inspect_pixels(encoded, add, grey=components != _CMYK)
    _inspect_form(encoded, features, (height, width, components), add)
    return height, width


def _inspect_form(
    encoded: bytes, features: Any, header: tuple[int, int, int | None], add: Add
) -> None:
    """Note what training copes with, and fields that say something else."""
    height, width, components = header
    if components in (_GREY, _CMYK):
        add(FaultKind.GREY if components == _GREY else FaultKind.CMYK, "")
    _compare_size(features, (height, width), add)
    if (orientation := exif.orientation(encoded)) != exif.UPRIGHT:
        add(FaultKind.ORIENTED, f"orientation {orientation}")


def _header(encoded: bytes) -> tuple[int, int, int | None]:
    """Return height, width and a JPEG's components; None of a PNG, which has no CMYK.

    Raises:
      InvalidArgumentError: it is damaged.
    """
    if not encoded.startswith(image_formats.JPEG):
        sides = png_shape(tf.constant(encoded)).numpy()
        # 32 bits of a header may say more than a PNG can have, and than IMAGE holds.
        height, width = np.minimum(sides, np.iinfo(np.int32).max).tolist()
        return height, width, None
    _, shape = jpeg_warnings.listen(lambda: tf.image.extract_jpeg_shape(encoded))
    height, width, components = shape.numpy().tolist()
    return height, width, components


def _inspect_pixels(encoded: bytes, add: Add, *, grey: bool) -> None:
    """Read the whole image with the decoder of training; see `jpeg_warnings.decode`."""
    complaint = None
    try:
        if encoded.startswith(image_formats.JPEG):
            complaint = jpeg_warnings.decode(encoded, ratio=8, grey=grey)
        else:
            tf.io.decode_png(encoded, channels=3)
    except tf.errors.InvalidArgumentError:
        add(FaultKind.BAD_JPEG, "")
        return
    if complaint is not None:
        made_up, odd = FaultKind.MADE_UP_PIXELS, FaultKind.ODD_JPEG
        add(made_up if complaint.is_damage else odd, complaint.text)


def _compare_size(features: Any, size: tuple[int, int], add: Add) -> None:
    fields = ("image/height", "image/width")
    listed = [_optional(features, field, "int64_list") for field in fields]
    if any(a not in (None, b) for a, b in zip(listed, size, strict=True)):
        says = " x ".join("?" if side is None else str(side) for side in listed)
        add(
            FaultKind.WRONG_SIZE,
            f"{says} in the fields, {size[0]} x {size[1]} in the image",
        )
