"""The data of a run: what was there when it began, kept beside its config.

A path says nothing of what lies there. data.json in a run's folder has the classes in
order, and of both splits how many images there were and a digest of their records.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from common import gfiles
from common.errors import UserError
from input_pipeline import info_schema
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.errors import DataError
from input_pipeline.info_schema import InfoError
from input_pipeline.records import DIGEST_CHARACTERS, IMAGENET, Fields
from train.experiment import Experiment

SAVED = "data.json"
_DIGEST = re.compile(rf"[0-9a-f]{{{DIGEST_CHARACTERS}}}")
_ACCEPTED = 12  # characters of the digest that a person types


@dataclasses.dataclass(frozen=True)
class SplitData:
    """What a run knows of a split.

    Attributes:
      split: its name as the config has it, "train" or "train[:20shard]".
      images: how many there are.
      of_classes: how many of each class, in the order of the names; None where the data
        do not say, as of some of a split's shards.
      digest: of the records, see `SplitInfo.digest`; "" where the data have none.
      layout: of the numbers of records, and where they begin, in each file: it is
        always known, and other images seldom have the same.
    """

    split: str
    images: int
    of_classes: tuple[int, ...] | None
    digest: str
    layout: str


@dataclasses.dataclass(frozen=True)
class RunData:
    """What a run knows of its data.

    Attributes:
      name: of the dataset.
      label_offset: the label of the first class.
      label_names: of the classes, in order: that of an output of the network.
      fields: what the records call what is read of them.
      training: the split that is learnt.
      evaluation: the one that is scored; None where the data have no such split.
      data_dir: where they lay; a hint for people, the same data may lie elsewhere.
    """

    name: str
    label_offset: int
    label_names: tuple[str, ...]
    fields: Fields
    training: SplitData
    evaluation: SplitData | None
    data_dir: str

    @property
    def identity(self) -> str:
        """A digest of the classes and both splits, wherever they lie, in hex."""
        return _identity(self)

    @property
    def layout_identity(self) -> str:
        """The same of what data without digests know, too."""
        return _identity(self, but=("digest", "of_classes"))

    @property
    def has_digests(self) -> bool:
        """Whether the records of all splits are known."""
        return all(one.digest for one in (self.training, self.evaluation) if one)

    @property
    def accepted_by(self) -> str:
        """What a person types to accept these data, and no others."""
        return self.identity[:_ACCEPTED]

    def info(self) -> DatasetInfo:
        """Return the description of a dataset of these classes, without any split."""
        return DatasetInfo(
            self.name, self.label_offset, self.label_names, {}, self.fields
        )


def find(experiment: Experiment, info: DatasetInfo) -> RunData:
    """Return what there is now, where the config says.

    Raises:
      DataError: there is no such training split.
    """
    evaluation = None
    with contextlib.suppress(DataError):  # who trains alone needs none
        evaluation = split_data(experiment.eval_split, info)
    return RunData(
        info.name,
        info.label_offset,
        info.label_names,
        info.fields,
        split_data(experiment.train_split, info),
        evaluation,
        experiment.data_dir,
    )


def split_data(split: str, info: DatasetInfo) -> SplitData:
    """Return what there is to know of a split, named as in a config; or DataError."""
    found = info.split(split)
    return SplitData(split, found.total, found.images, found.digest, _layout(found))


def _layout(split: SplitInfo) -> str:
    shards = [[shard.records, *shard.offsets] for shard in split.shards]
    return _sha256(json.dumps(shards))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def write(data: RunData, model_dir: str) -> None:
    """Write data.json of a run, whole or not at all; UserError when it cannot be."""
    text = json.dumps(_to_json(data), indent=2, ensure_ascii=False)
    gfiles.write_text(f"{model_dir}/{SAVED}", text + "\n")


def _identity(data: RunData, but: tuple[str, ...] = ()) -> str:
    content = _to_json(data)
    del content["data_dir"], content["name"]
    for split in filter(None, (content["training"], content["evaluation"])):
        for name in but:
            split.pop(name, None)
    return _sha256(json.dumps(content, sort_keys=True))


def _to_json(data: RunData) -> dict[str, Any]:
    content = dataclasses.asdict(data)
    for name in ("training", "evaluation"):
        if content[name] and content[name]["of_classes"] is None:
            del content[name]["of_classes"]
    return content


def read(model_dir: str) -> RunData | None:
    """Return the data of a run, None where it does not know them.

    Args:
      model_dir: of a run; local or gs://. Runs of earlier versions have no data.json,
        and an empty one is left by a power cut.

    Raises:
      UserError: somebody has damaged data.json; says where, and the way out.
    """
    path = f"{model_dir}/{SAVED}"
    try:
        text = gfiles.read_text(path)
        if text is None or not text.strip("\0 \t\r\n"):
            return None
        return _from_json(_Part("", info_schema.read_json(text.encode())))
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is no UTF-8"
    except InfoError as error:
        why = str(error)
    raise UserError(
        f"{path} is damaged: {why}; put back what was there, or move it elsewhere (the "
        "run then goes on without a look at whether its data are the same)"
    )


class _Part:
    """A part of data.json that knows its place there."""

    def __init__(self, place: str, content: Any):
        self.place, self.content = place, content

    def __getitem__(self, key: str) -> "_Part":
        place = f"{self.place}.{key}" if self.place else key
        if not isinstance(self.content, Mapping):
            raise self.wrong("an object, {...}")
        if key not in self.content:
            raise InfoError(f"{place} is missing")
        return _Part(place, self.content[key])

    def get(self, key: str) -> "_Part | None":
        """Return a part that need not be there, nor be said."""
        there = isinstance(self.content, Mapping) and self.content.get(key) is not None
        return self[key] if there else None

    def items(self) -> "list[_Part]":
        """Return the elements of a list that has some."""
        if not isinstance(self.content, list) or not self.content:
            raise self.wrong("a list of at least one, [...]")
        return [_Part(f"{self.place}[{n}]", one) for n, one in enumerate(self.content)]

    def text(self) -> str:
        """Return a text that is not empty."""
        if not isinstance(self.content, str) or not self.content:
            raise self.wrong("a text in quotes, not empty")
        return self.content

    def whole(self, least: int = 0) -> int:
        """Return a whole number."""
        if type(self.content) is not int or self.content < least:
            raise self.wrong("a whole number" + f", {least} or more" * (least == 0))
        return self.content

    def digest(self) -> str:
        """Return a digest, or nothing."""
        if not isinstance(self.content, str) or not _DIGEST.fullmatch(self.content):
            raise self.wrong(f"{DIGEST_CHARACTERS} hexadecimal digits")
        return self.content

    def wrong(self, what: str) -> InfoError:
        """Make the error that says what it has to be."""
        return InfoError(f"{self.place or 'the whole file'} has to be {what}")


def _from_json(file: _Part) -> RunData:
    names = tuple(name.text() for name in file["label_names"].items())
    fields = file["fields"]
    evaluation = file.get("evaluation")
    return RunData(
        file["name"].text(),
        file["label_offset"].whole(least=-(2**63)),
        names,
        Fields(**{name: fields[name].text() for name in dataclasses.asdict(IMAGENET)}),
        _split_from_json(file["training"], len(names)),
        None if evaluation is None else _split_from_json(evaluation, len(names)),
        file["data_dir"].text(),
    )


def _split_from_json(split: _Part, classes: int) -> SplitData:
    images, given = split["images"].whole(), split.get("of_classes")
    of_classes = None
    if given is not None:
        of_classes = tuple(one.whole() for one in given.items())
        if len(of_classes) != classes or sum(of_classes) != images:
            raise given.wrong(f"{classes} numbers that add up to {images}")
    digest = split["digest"]
    return SplitData(
        split["split"].text(),
        images,
        of_classes,
        "" if digest.content == "" else digest.digest(),
        split["layout"].digest(),
    )
