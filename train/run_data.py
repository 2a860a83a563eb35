"""The data of a run: what was there when it began, kept beside its config.

A path says nothing of what lies there. data.json in a run's folder has the classes in
order, and of both splits how many images there were and a digest of their records.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from common import gfiles
from common.claims import Fence, no_fence
from common.errors import UserError
from input_pipeline import info_schema
from input_pipeline.dataset_info import DatasetInfo, SplitInfo
from input_pipeline.errors import DataError
from input_pipeline.info_schema import (
    COUNT,
    DIGEST,
    LABEL,
    LIST,
    OBJECT,
    TEXT,
    InfoError,
    Value,
)
from input_pipeline.records import DIGEST_CHARACTERS, IMAGENET, Fields
from train.experiment import Experiment

SAVED = "data.json"
SHOWN = 12  # characters of a digest that a person reads, or types


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
        return self.identity[:SHOWN]

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


def of_same_images(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether scores of two evaluations can be compared, as far as they say."""
    return all(
        one.get(key) is None or other.get(key) is None or one[key] == other[key]
        for key in ("eval_split", "eval_digest")
    )


def _layout(split: SplitInfo) -> str:
    shards = [[shard.records, *shard.offsets] for shard in split.shards]
    return _sha256(json.dumps(shards))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def write(data: RunData, model_dir: str, *, fence: Fence = no_fence) -> None:
    """Write data.json of a run, whole or not at all; see `gfiles.write_json`."""
    text = json.dumps(_to_json(data), indent=2, ensure_ascii=False)
    gfiles.write_text(f"{model_dir}/{SAVED}", text + "\n", fence=fence)


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
        return _from_json(Value("", info_schema.read_json(text.encode())))
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is no UTF-8"
    except InfoError as error:
        why = str(error)
    raise UserError(
        f"{path} is damaged: {why}; put back what was there, or move it elsewhere (the "
        "run then goes on without a look at whether its data are the same)"
    )


def _from_json(file: Value) -> RunData:
    names = _texts(file.require(OBJECT)["label_names"])
    fields = file["fields"].require(OBJECT)
    return RunData(
        file["name"].require(TEXT).content,
        file["label_offset"].require(LABEL).content,
        names,
        Fields(
            **{
                name: fields[name].require(TEXT).content
                for name in dataclasses.asdict(IMAGENET)
            }
        ),
        _split_from_json(file["training"], len(names)),
        None
        if file.content.get("evaluation") is None
        else _split_from_json(file["evaluation"], len(names)),
        file["data_dir"].require(TEXT).content,
    )


def _texts(names: Value) -> tuple[str, ...]:
    return tuple(one.require(TEXT).content for one in names.require(LIST).items())


def _split_from_json(split: Value, classes: int) -> SplitData:
    images = split.require(OBJECT)["images"].require(COUNT).content
    of_classes = None
    if "of_classes" in split.content:
        given = split["of_classes"].require(LIST)
        of_classes = tuple(one.require(COUNT).content for one in given.items())
        if len(of_classes) != classes or sum(of_classes) != images:
            raise given.wrong(f"it has to be {classes} numbers that add up to {images}")
    digest = split["digest"]
    return SplitData(
        split["split"].require(TEXT).content,
        images,
        of_classes,
        "" if digest.content == "" else digest.require(DIGEST).content,
        split["layout"].require(DIGEST).content,
    )
