"""The two files of numbers that a run leaves, for machines and for TensorBoard.

Both keep what is not on the disk yet: a `flush` that fails loses nothing and may be
called again.
"""

import contextlib
import json
import math
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from common import gcs, gfiles
from common.claims import Fence, no_fence
from common.errors import Restart, UserError
from train.telemetry.growing import GrowingFile, GrowingRecords

# By it TensorBoard knows that a file says itself where a run went back.
EVENT_VERSION = "brain.Event:2"
_KINDS = ("train", "eval", "event")
_BEGIN = b'{"kind": "'  # of a line of ours

# Of such a file: one of ours, or somebody's text without its end.
_Line = dict[str, Any] | bytes


class JsonLines:
    """A file of JSON objects, one a line, of which no two contradict each other.

    What a person has written between them stays as it is, in its place.

    A flush adds what is new at its end. All is written anew, aside and renamed, only
    where something is taken back or replaced, or where a kill has left half a line.
    """

    def __init__(self, path: str, fence: Fence = no_fence):
        self.path = path
        self._file = GrowingFile(path, fence)
        self._new: list[dict[str, Any]] = []
        self._kept_step = math.inf  # training beyond it is not true any more
        # Of what was seen of the file, and is ours: the last step of training, and the
        # evaluations by step. None where nothing was.
        self._last_step: float | None = None
        self._scores: dict[int, dict[str, Any]] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        """Take a line with at least `kind` and `step`."""
        self._new.append(gfiles.to_json(line))

    def go_back(self, step: int) -> None:
        """Take back the lines of training beyond `step`."""
        self._new = [line for line in self._new if _stands(line, step)]
        self._kept_step = min(self._kept_step, step)

    def flush(self) -> None:
        """Write what is new; UserError or Restart when it cannot be."""
        if not self._new and self._kept_step == math.inf:
            return
        if not (self._only_adds() and self._append(self._new)):
            self._merge()
        self._new = []
        self._kept_step = math.inf

    def evaluations(self) -> dict[int, dict[str, Any]]:
        """Return the evaluations that are in the file, by step, of any process.

        Raises:
          UserError, Restart: it cannot be read.
        """
        if self._last_step is None or not self._file.is_as_seen():
            self._see(_split(self._file.read()))
        return self._scores

    def _only_adds(self) -> bool:
        """Whether what is new leaves all lines of the file as they are."""
        if self._last_step is None:
            return False
        scored = [line["step"] for line in self._new if line["kind"] == "eval"]
        is_first = not any(step in self._scores for step in scored)
        is_true = self._last_step <= self._kept_step
        return is_true and is_first and len({*scored}) == len(scored)

    def _append(self, lines: Sequence[_Line]) -> bool:
        """Whether the file was as it was last seen, and has these lines now."""
        if not self._file.append(b"".join(map(to_bytes, lines))):
            return False
        self._see(lines, anew=False)
        return True

    def _merge(self) -> None:
        """Read the file and write what it has to say now, with what is new.

        Another job may have scored checkpoints of this run. And a bucket that has not
        answered may have what is new: a line that is there does not count.
        """
        self._last_step = None
        content = self._file.read()
        old = _split(content)
        if any(map(_is_text, old)) and not any(isinstance(line, dict) for line in old):
            raise UserError(f"{self.path} is of no run: move it away")
        new = {*map(to_bytes, self._new)}
        kept = [
            line
            for line in old
            if _stands(line, self._kept_step) and to_bytes(line) not in new
        ]
        lines = _without_replaced(kept + self._new)
        data = b"".join(map(to_bytes, lines))
        is_more = data.startswith(content)
        if not (is_more and self._file.append(data[len(content) :])):
            self._file.replace(data)
        self._see(lines)

    def _see(self, lines: Sequence[_Line], *, anew: bool = True) -> None:
        """Remember what `_only_adds` asks of the file's lines, or of those added."""
        last, scores = -math.inf, {}
        if self._last_step is not None and not anew:
            last, scores = self._last_step, self._scores
        for line in lines:
            if isinstance(line, dict) and line["kind"] == "train":
                last = max(last, line["step"])
            elif isinstance(line, dict) and line["kind"] == "eval":
                scores[line["step"]] = line
        self._last_step, self._scores = last, scores


def read_lines(path: str) -> list[dict[str, Any]]:
    """Return the lines of such a file that are ours, none when there is no file.

    Raises:
      UserError, Restart: it cannot be read.
    """
    content = GrowingFile(path).read()
    return [line for line in _split(content) if isinstance(line, dict)]


def _split(content: bytes) -> list[_Line]:
    """Return all lines of such a file but one of ours that was cut off at its end."""
    *whole, last = content.split(b"\n")
    return [_parse(text) for text in (whole if _is_cut_off(last) else [*whole, last])]


def _is_cut_off(text: bytes) -> bool:
    """Whether a last line is nothing, or the beginning of one of ours."""
    begins = text.startswith(_BEGIN) or _BEGIN.startswith(text)
    return begins and _json(text) is None


def _parse(text: bytes) -> _Line:
    """Return a line of ours as what it says, any other as it is."""
    line = _json(text)
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return text
    return line if line.get("kind") in _KINDS else text


def _json(text: bytes) -> Any:
    """Return what a line says, None where that is nothing or no JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text, parse_constant=lambda _: None)
    return None


def to_bytes(line: _Line) -> bytes:
    """Return a line of the file, of its values or as it was read."""
    return (json.dumps(line).encode() if isinstance(line, dict) else line) + b"\n"


def _is_text(line: _Line) -> bool:
    return isinstance(line, bytes) and bool(line.strip())


def _stands(line: _Line, step: float) -> bool:
    """Whether a line is still true of a run that went back to `step`."""
    if not isinstance(line, dict):
        return True
    return line["kind"] != "train" or line["step"] <= step


def _without_replaced(lines: Sequence[_Line]) -> list[_Line]:
    """Leave out the evaluations of which a later line scores the same step."""
    last = {
        line["step"]: n
        for n, line in enumerate(lines)
        if isinstance(line, dict) and line["kind"] == "eval"
    }
    return [
        line
        for n, line in enumerate(lines)
        if not isinstance(line, dict)
        or line["kind"] != "eval"
        or last[line["step"]] == n
    ]


class EventFile:
    """Curves, text and images of one run of TensorBoard's.

    Not a `tf.summary` writer: that one loses what it cannot write, and it has no way
    to say between two points that the run went back.
    """

    def __init__(self, path: str, fence: Fence = no_fence):
        self.path = path
        self._fence = fence
        self._writer: tf.io.TFRecordWriter | GrowingRecords | None = None
        self._new: list[tf.compat.v1.Event] = []
        self._step: int | None = None  # of the last event that is on the disk

    def go_back(self, step: int) -> None:
        """Make TensorBoard forget the points beyond `step`, of any process."""
        self._new.append(_start(step))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curve of each tag."""
        self._add(
            step,
            [
                tf.compat.v1.Summary.Value(tag=tag, simple_value=value)
                for tag, value in values.items()
            ],
        )

    def text(self, step: int, tag: str, markdown: str) -> None:
        """Add a text."""
        plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="text")
        value = tf.compat.v1.Summary.Value(
            tag=tag,
            tensor=tf.make_tensor_proto(markdown),
            metadata=tf.compat.v1.SummaryMetadata(plugin_data=plugin),
        )
        self._add(step, [value])

    def images(self, step: int, tag: str, images: np.ndarray) -> None:
        """Add uint8[N, H, W, 3] as tag/0, tag/1 ..."""
        values = []
        for place, image in enumerate(images):
            height, width, channels = image.shape
            encoded = tf.compat.v1.Summary.Image(
                height=height,
                width=width,
                colorspace=channels,
                encoded_image_string=tf.io.encode_png(image).numpy(),
            )
            values.append(
                tf.compat.v1.Summary.Value(tag=f"{tag}/{place}", image=encoded)
            )
        self._add(step, values)

    def flush(self) -> None:
        """Write what is new; OpError, UserError or Restart when it cannot be."""
        points = any(event.HasField("summary") for event in self._new)
        if self._writer is None and not points:
            # To go back alone makes no file: a job that only trains leaves alone the
            # folder of the job that scores its checkpoints.
            return
        try:
            if self._writer is None:
                self._writer = self._open()
            for event in self._new:
                self._writer.write(event.SerializeToString())
            self._writer.flush()
        except (tf.errors.OpError, UserError, Restart):
            # The file may end in half an event, behind which nothing is read.
            self.close()
            raise
        if self._new:
            self._step = self._new[-1].step
        self._new = []

    def close(self) -> None:
        """Close the file; what was flushed is in it."""
        writer, self._writer = self._writer, None
        if writer is not None:
            # Only reached with something to lose where flush has already raised.
            with contextlib.suppress(tf.errors.OpError):
                writer.close()

    def _open(self) -> tf.io.TFRecordWriter | GrowingRecords:
        gfiles.make_folders(self.path)
        # TensorBoard reads files in the order of their names.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        path = f"{self.path}/{name}"
        if path.startswith(gcs.SCHEME):
            writer = GrowingRecords(path, self._fence)
        else:
            writer = tf.io.TFRecordWriter(path)
        writer.write(_event(file_version=EVENT_VERSION).SerializeToString())
        if self._step is not None:
            # A flush has failed: what of it came through will be written again.
            writer.write(_start(self._step).SerializeToString())
        return writer

    def _add(self, step: int, values: Sequence[tf.compat.v1.Summary.Value]) -> None:
        self._new.append(_event(step=step, summary=tf.compat.v1.Summary(value=values)))


def _start(step: int) -> tf.compat.v1.Event:
    """Return what makes TensorBoard forget the points beyond `step`."""
    log = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
    # It forgets those of the step that is named as well.
    return _event(step=step + 1, session_log=log)


def _event(**content: Any) -> tf.compat.v1.Event:
    return tf.compat.v1.Event(wall_time=time.time(), **content)
