"""What an export takes of the data: the names of the classes, and images to compare."""

import os
from typing import NamedTuple

import keras

from common import gfiles
from common.console import count, escaped, named, say, warn
from common.errors import UserError, first_line
from input_pipeline.dataset_info import DatasetInfo, load_info
from input_pipeline.errors import DataError
from train import run_data
from train.checkpoints import directory
from train.experiment import Experiment
from train.run_data import SplitData
from train.settings import data_changes
from train.start import counts

_WAYS_OUT = (
    "name photos to compare the SavedModel on (--check_images PATH ...), or leave the "
    "comparison out (--no_check)"
)


class Source(NamedTuple):
    """Where an export gets the names from, and the evaluation's images.

    Attributes:
      classes: names, offset and fields, as the run has learnt them.
      data: the data set that the evaluation reads; None where there is none.
      why_no_data: why not.
    """

    classes: DatasetInfo
    data: DatasetInfo | None
    why_no_data: str = ""


def find(experiment: Experiment, model_dir: str, *, compares: bool) -> Source:
    """Return what a run knows of its data, and the data themselves if they are there.

    Args:
      experiment: of the run; its data_dir may be that of another machine.
      model_dir: of the run, or its folder of the best checkpoint.
      compares: whether the images are wanted. If they are not, and the run knows its
        classes, nobody looks for the data.

    Raises:
      UserError: the classes are not known, or the data have others than the run.
    """
    run = model_dir.removesuffix(f"/{directory.BEST}")
    saved = run_data.read(run)
    if saved is not None and not compares:
        return Source(saved.info(), None)
    data, why = _load(experiment, experiment.eval_split)
    if saved is None:
        if data is None:
            raise UserError(
                f"{run} has no {run_data.SAVED}, as runs of earlier versions, and "
                f"{why}: nobody knows the names of its classes. Name the folder of its "
                "data: --gin_param=\"experiment.Experiment.data_dir = 'DIR'\""
            )
        say(
            escaped(
                f"{run} has no {run_data.SAVED}: its classes are called as those of "
                f"{experiment.data_dir}"
            )
        )
        return Source(data, data)
    if data is not None:
        try:
            data_changes.refuse_other_classes(saved, data, run)
        except UserError as refusal:
            raise UserError(f"{refusal}; or {_WAYS_OUT}") from None
        _compare_images(
            saved.evaluation,
            run_data.split_data(experiment.eval_split, data),
            f"of {experiment.data_dir} is not the one that the run scores",
            "the SavedModel is compared on them all the same",
        )
    return Source(saved.info(), data, why)


def find_training(
    experiment: Experiment, model_dir: str, *, wanted_by: str
) -> DatasetInfo:
    """Return the data set of the images that a run learns.

    Args:
      experiment: of the run.
      model_dir: as for `find`.
      wanted_by: the flag that asks for them.

    Raises:
      UserError: they are not there, or the data have other classes than the run.
    """
    data, why = _load(experiment, experiment.train_split)
    if data is None:
        raise UserError(
            f"{wanted_by} is of training images, and {why}: name the folder of the "
            "run's data (--gin_param=\"experiment.Experiment.data_dir = 'DIR'\"), or "
            f"leave {wanted_by} out"
        )
    run = model_dir.removesuffix(f"/{directory.BEST}")
    if (saved := run_data.read(run)) is not None:
        data_changes.refuse_other_classes(saved, data, run)
        _compare_images(
            saved.training,
            run_data.split_data(experiment.train_split, data),
            f"of {experiment.data_dir} is not the one that the run learns",
            f"{wanted_by} takes them all the same",
        )
    return data


def _load(experiment: Experiment, split: str) -> tuple[DatasetInfo | None, str]:
    """Return the data set that the config names, or why it has no such split."""
    folder = experiment.data_dir
    local = gfiles.local_path(folder)
    if local is not None and not os.path.isdir(local):
        return None, f"there is no folder {folder}"
    try:
        info = load_info(folder)
        info.split(split)
    except (DataError, *gfiles.Errors) as error:
        return None, first_line(error)
    return info, ""


def _compare_images(
    known: SplitData | None, there: SplitData, what: str, but: str
) -> None:
    """Say that the images are not those that the run has known."""
    if known is None or known.split != there.split:
        return
    digests = known.digest, there.digest
    one, other = digests if all(digests) else (known.layout, there.layout)
    if one != other:
        images = count(there.images, "image")
        were = "others" if there.images == known.images else f"{known.images:,}"
        warn(f"split {there.split} {what}: {images}, and there were {were}; {but}")


def _listed(names: tuple[str, ...]) -> str:
    return f"{count(len(names), 'class', 'classes')} ({named(map(repr, names))})"


def check_outputs(
    experiment: Experiment, classes: DatasetInfo, model: keras.Model
) -> None:
    """Refuse a model with more outputs than there are names, unless that is intended.

    Raises:
      UserError: the names are most likely those of other data.
    """
    names, outputs = classes.label_names, model.output_shape[-1]
    if outputs == len(names):
        return
    if "spare_outputs" not in experiment.intended:
        raise UserError(
            f"the model has {outputs:,} outputs, and {classes.name} has "
            f"{_listed(names)}: name the data that it has learnt "
            "(experiment.Experiment.data_dir). If the other outputs stand for "
            f"nothing: {counts.binding(experiment, ['spare_outputs'])}"
        )
    warn(
        f"{count(outputs - len(names), 'output')} of {outputs:,} stand for no class, "
        f"and are called by their numbers, from {len(names)}"
    )
