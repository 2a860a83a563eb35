"""What `input_pipeline.validate` can find wrong with a dataset, and where it did."""

import collections
import dataclasses
import enum
from typing import NamedTuple

# That many locations of each kind are kept, and shown; the others are counted.
MAX_LOCATIONS = 10

_COPY = "copy it again, or prepare the dataset again"
_REPLACE = "remove or replace it, or train without it (on_bad_record: skip)"
_INDEX = (
    "take the dataset_info.json that belongs to these files, or delete it and let "
    "python -m input_pipeline.prepare tfrecords write a new one"
)


class FaultKind(enum.Enum):
    """A kind of fault: its title, whether training suffers from it, how to mend it."""

    MISSING_FILE = ("missing file", True, _COPY)
    UNREADABLE_FILE = ("unreadable file", True, "mend what its line names")
    EMPTY_FILE = ("empty file", True, _COPY)
    CUT_OFF_FILE = ("file cut off", True, _COPY)
    DAMAGED_RECORD = ("damaged record", True, _COPY)
    WRONG_COUNT = ("wrong number of records", True, _INDEX)
    WRONG_OFFSETS = ("wrong offsets", True, _INDEX)
    OTHER_RECORDS = (
        "other records than dataset_info.json says",
        True,
        "somebody has changed the file: take back what belongs to dataset_info.json, "
        "or prepare again, with --overwrite_info if they are meant",
    )
    OTHER_COUNTS = (
        "number of images of a class that is not as dataset_info.json says",
        True,
        _INDEX,
    )
    UNLISTED_FILE = (
        "file that dataset_info.json does not list",
        True,
        f"training would not read it: move it elsewhere, or {_INDEX}",
    )
    OTHER_SPLIT = (
        "TFRecord of a split that dataset_info.json does not have",
        False,
        "nothing, if this split was left out on purpose",
    )
    LEFTOVER_FILE = (
        "file left by an interrupted run",
        False,
        "delete it when nothing is preparing this dataset any more",
    )
    NOT_AN_EXAMPLE = ("not a tf.train.Example", True, _REPLACE)
    BAD_FIELD = ("missing or wrong field", True, _REPLACE)
    LABEL_OUTSIDE = (
        "label outside the classes",
        True,
        "mend the labels, or label_offset and label_names in dataset_info.json",
    )
    ODD_EXAMPLE = (
        "damaged tf.train.Example that training can read",
        False,
        "nothing: image and label are whole; other tools may refuse it",
    )
    # The names are words of --json, from the time when records held JPEGs alone.
    NOT_A_JPEG = ("neither a JPEG nor a PNG", True, "write it as one of them")
    BAD_HEADER = ("damaged image header", True, _REPLACE)
    BAD_JPEG = ("damaged image data", True, _REPLACE)
    MADE_UP_PIXELS = (
        "JPEG with missing or corrupt data, filled with grey",
        True,
        "training would learn the grey: replace the image, or prepare without it",
    )
    ODD_JPEG = (
        "JPEG with stray bytes or an odd header",
        False,
        "nothing: all of the image is read",
    )
    TOO_LARGE = ("image too large to load", True, "make it smaller")
    GREY = ("grey JPEG", False, "nothing: training reads it as RGB")
    CMYK = (
        "CMYK JPEG",
        False,
        "training reads it as RGB, but without its colour profile: convert it to RGB "
        "for true colours",
    )
    WRONG_SIZE = (
        "image/height or image/width is not the image's",
        False,
        "nothing: training does not read them",
    )
    ORIENTED = (
        "image with an EXIF orientation",
        False,
        "a record is taken as it is stored, in training, in evaluation and by "
        "train.classify --tfrecords: where photos lie on their side, prepare their "
        "files anew, which turns them",
    )
    EMPTY_CLASS = ("class without an image", False, "add images, or drop the class")
    LEAK = (
        "image that is in another split, too",
        True,
        "remove it from one: it makes the accuracy look better than it is",
    )
    CONFLICT = ("same image with another label", True, "keep one of them")
    DUPLICATE = ("same image again", True, "keep one of them")

    def __init__(self, title: str, is_error: bool, remedy: str):
        self.title = title
        self.is_error = is_error
        self.remedy = remedy


class Location(NamedTuple):
    """Where: a file, a record in it (from 0), its image/filename; and what exactly."""

    file: str
    record: int | None = None
    image: str = ""
    detail: str = ""

    def __str__(self) -> str:
        record = "" if self.record is None else f", record {self.record}"
        image = f" ({self.image})" if self.image else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.file}{record}{image}{detail}"


@dataclasses.dataclass
class Findings:
    """Counts of what was found, by kind.

    Attributes:
      counts: how often.
      locations: the first MAX_LOCATIONS of each kind.
      tolerated: errors of which there are too few to matter: they count as warnings.
      remedies: how to mend, where this dataset tells more than its kind does.
    """

    counts: collections.Counter[FaultKind] = dataclasses.field(
        default_factory=collections.Counter
    )
    locations: dict[FaultKind, list[Location]] = dataclasses.field(default_factory=dict)
    tolerated: set[FaultKind] = dataclasses.field(default_factory=set)
    remedies: dict[FaultKind, str] = dataclasses.field(default_factory=dict)

    def add(self, kind: FaultKind, location: Location) -> None:
        """Note one finding."""
        self.counts[kind] += 1
        locations = self.locations.setdefault(kind, [])
        if len(locations) < MAX_LOCATIONS:
            locations.append(location)

    def merge(self, other: "Findings") -> None:
        """Take over what was found in another file."""
        self.counts.update(other.counts)
        for kind, more in other.locations.items():
            locations = self.locations.setdefault(kind, [])
            locations.extend(more[: MAX_LOCATIONS - len(locations)])

    def is_error(self, kind: FaultKind) -> bool:
        """Whether this kind makes the dataset unsound."""
        return kind.is_error and kind not in self.tolerated

    def remedy(self, kind: FaultKind) -> str:
        """Say how to mend this kind here."""
        return self.remedies.get(kind, kind.remedy)

    def found(self) -> list[FaultKind]:
        """Return the kinds found, errors first, otherwise in the order of FaultKind."""
        kinds = [kind for kind in FaultKind if self.counts[kind]]
        return sorted(kinds, key=lambda kind: not self.is_error(kind))

    @property
    def errors(self) -> int:
        """The number of findings that make the dataset unsound."""
        return sum(n for kind, n in self.counts.items() if self.is_error(kind))

    @property
    def warnings(self) -> int:
        """The number of the other findings."""
        return self.counts.total() - self.errors
