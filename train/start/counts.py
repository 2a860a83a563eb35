"""Counts of a run that are mostly a mistake: refused, or said.

What cannot be meant without somebody saying so is refused; the binding that says so is
in the line. A run that has begun goes on: for it they are warnings.
"""

from collections.abc import Iterable, Iterator

from common.console import count, named
from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo
from train.experiment import Experiment


def refuse(experiment: Experiment, info: DatasetInfo, outputs: int) -> None:
    """Refuse what the recipe does not call intended.

    Args:
      experiment: the recipe.
      info: of its data.
      outputs: of the model, logits of an image.

    Raises:
      UserError: says what, how to mend it, and how to say that it is meant.
    """
    found = _unusual(experiment, info, outputs)
    if not found:
        return
    raise UserError(
        f"{'; and '.join(found.values())}. If it is meant: {binding(experiment, found)}"
    )


def binding(experiment: Experiment, names: Iterable[str]) -> str:
    """Return the flag that calls these intended, too."""
    intended = sorted({*experiment.intended, *names})
    return f'--gin_param="experiment.Experiment.intended = {intended}"'


def _unusual(experiment: Experiment, info: DatasetInfo, outputs: int) -> dict[str, str]:
    """Return what has to be intended and is not said to be, by its name there."""
    classes = len(info.label_names)
    found = {}
    if classes == 1:
        found["one_class"] = (
            f"{experiment.data_dir} has one class alone, "
            f"{info.label_names[0]!r}, of which nothing can be learnt: a folder of "
            "photos to prepare has a folder for each class"
        )
    if outputs > classes > 0:  # of no class is data that nobody has seen
        found["spare_outputs"] = (
            f"{experiment.data_dir} has {count(classes, 'class', 'classes')} but the "
            f"model has {outputs:,} outputs: bind "
            f"efficientnet_x.build_model.num_classes = {classes}"
        )
    images = info.split(experiment.train_split).total
    if experiment.global_batch_size > images:
        found["large_batch"] = (
            f"Experiment.global_batch_size = {experiment.global_batch_size:,} is more "
            f"than the {count(images, 'image')} of split {experiment.train_split}: "
            "each step would take some of them more than once; bind "
            f"experiment.Experiment.global_batch_size = {_power_of_two(images)}"
        )
    return {k: v for k, v in found.items() if k not in experiment.intended}


def _power_of_two(most: int) -> int:
    """Return the largest power of two that is not more; 1 of nothing."""
    return 1 << max(most.bit_length() - 1, 0)


def remarks(
    experiment: Experiment,
    info: DatasetInfo,
    outputs: int,
    *,
    has_begun: bool,
    with_evaluation: bool,
) -> Iterator[str]:
    """Yield a line for each count that may not be meant.

    Args:
      experiment: the recipe.
      info: of its data.
      outputs: of the model, logits of an image.
      has_begun: whether the run goes on, so that nothing was refused.
      with_evaluation: whether the evaluation split is scored.
    """
    if has_begun:
        yield from _unusual(experiment, info, outputs).values()
    yield from _missing_classes(experiment.train_split, info, "cannot be learnt")
    if with_evaluation:
        yield from _missing_classes(experiment.eval_split, info, "are not scored")


def _missing_classes(split: str, info: DatasetInfo, so: str) -> Iterator[str]:
    """Yield a line where a split lacks classes, if its images are counted."""
    images = info.split(split).images
    if images is None or len(images) == 1:
        return
    there = [name for name, n in zip(info.label_names, images, strict=True) if n]
    lacking = [name for name, n in zip(info.label_names, images, strict=True) if not n]
    if len(there) == 1:
        yield (
            f"the {count(sum(images), 'image')} of split {split} are of one class "
            f"alone, {there[0]!r}; {len(lacking):,} other classes {so}"
        )
    elif lacking:
        yield (
            f"split {split} has no image of {len(lacking):,} of the "
            f"{len(images):,} classes, which {so}: " + named(map(repr, lacking))
        )
