"""What is refused where the data of a run have become others.

The same data in another place are the same; other data are other images, or other
classes: what the network's outputs mean, and which image comes when, hang on them.
"""

import dataclasses

from common.console import count, warn
from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo
from train.distribution.processes import Processes
from train.experiment import Experiment
from train.run_data import SAVED, SHOWN, RunData, SplitData
from train.settings.data_differences import differences, other_classes

_PIECE = 31  # bits of a number that any number of replicas may add up


@dataclasses.dataclass(frozen=True)
class Known:
    """What a run knows of its data once it has looked.

    Attributes:
      data: to be written: those of now, with what only the run knew before.
      accepted: how they differ from those that it had; "" where they do not.
    """

    data: RunData
    accepted: str = ""


def compare(
    was: RunData | None,
    now: RunData,
    experiment: Experiment,
    model_dir: str,
    accept: str | None,
) -> Known:
    """Refuse to go on with a run whose data have become others.

    Args:
      was: what the run knows; None of a run of an earlier version.
      now: what there is.
      experiment: of the run, as it is to go on.
      model_dir: of the run.
      accept: `RunData.accepted_by` of data that it may go on with.

    Returns:
      What the run knows from now on.

    Raises:
      UserError: says what differs, and how to go on.
    """
    if was is None:
        warn(
            f"{model_dir} has no {SAVED}, as runs of earlier versions: whether its "
            f"data are those in {now.data_dir} nobody can tell; from now on they are "
            "compared"
        )
        return Known(now)
    found = differences(was, now)
    if not found:
        _warn_of_missing_digests(was, now)
        return Known(_completed(now, was))
    what = "; ".join([*found, *_consequences(was, now, experiment)])
    if outputs := _outputs_of_others(was, now, experiment):
        raise UserError(
            f"{_others(model_dir, was, now)}: {what}. The network has {outputs} "
            "outputs, so it cannot go on with them: take another --model_dir, with "
            f"Experiment.pretrained = {model_dir!r} and Experiment.new_head = True to "
            f"begin from its weights; {_back(was, now)}"
        )
    if accept != now.accepted_by:
        given = (
            f"--accept_data={accept} means other data than these. " if accept else ""
        )
        raise UserError(
            f"{_others(model_dir, was, now)}: {what}. {given}Take another --model_dir "
            f"to begin anew with them; {_back(was, now)}; or "
            f"--accept_data={now.accepted_by} to go on with these"
        )
    warn(f"{model_dir} goes on with other data: {what}")
    return Known(now, what)


def refuse_others(was: RunData | None, now: RunData, model_dir: str) -> None:
    """Refuse to score other data for a run's own record; UserError."""
    if was is not None and (found := differences(was, now)):
        raise UserError(
            f"{_others(model_dir, was, now)}: {'; '.join(found)}. What follows a run "
            f"scores its own data: {_back(was, now)}, or ask by --mode=eval; if the "
            "training was told to go on with these, start this command again"
        )


def refuse_other_classes(
    was: RunData | None, info: DatasetInfo, model_dir: str
) -> None:
    """Refuse data whose classes are not those of a run, in their order.

    Args:
      was: what the run knows; None of a run of an earlier version, which is said.
      info: of the data.
      model_dir: of the run.

    Raises:
      UserError: names the classes that differ.
    """
    if was is None:
        warn(
            f"{model_dir} has no {SAVED}, as runs of earlier versions: whether "
            f"{info.name} has the classes that it has learnt nobody can tell"
        )
    elif found := other_classes(was.label_names, info.label_names):
        raise UserError(
            f"{info.name} has other classes than {model_dir} has learnt: "
            f"{'; '.join(found)}. An output of its network would be taken for another "
            "class: name data with the same names in the same order"
        )


def agree(data: RunData, processes: Processes) -> None:
    """Refuse in all processes of a run that one of them has other data than the chief.

    Each may have its own disk.

    Args:
      data: that this process has.
      processes: of the run; all of them call this.

    Raises:
      UserError: names the processes, and says what this one has.
    """
    if processes.count == 1:
        return
    ours = [*_pieces(data.layout_identity), *_pieces(data.identity)]
    digested = int(data.has_digests)
    # The others add nothing: the chief's.
    told = processes.sum_over_processes(
        [processes.is_chief * number for number in (digested, *ours)]
    )
    both = bool(told[0] and digested)
    same = told[1:] == ours if both else told[1:3] == ours[:2]
    differ = [int(not same and n == processes.number) for n in range(processes.count)]
    found = [n for n, one in enumerate(processes.sum_over_processes(differ)) if one]
    if found:
        which = "process" if len(found) == 1 else "processes"
        raise UserError(
            f"{which} {', '.join(map(str, found))} of the run found other data than "
            f"the chief, process 0. In {data.data_dir} process {processes.number} has "
            f"{_summary(data)}: copy the same prepared folder to every machine"
        )


def _pieces(identity: str) -> tuple[int, int]:
    """Return what processes can tell each other of a digest: 62 bits."""
    number = int(identity, 16) % 2 ** (2 * _PIECE)
    return number >> _PIECE, number % 2**_PIECE


def _summary(data: RunData) -> str:
    splits = [
        f"{one.images:,} images of {one.split!r}"
        + (f" (digest {one.digest[:SHOWN]})" if one.digest else "")
        for one in (data.training, data.evaluation)
        if one is not None
    ]
    classes = count(len(data.label_names), "class", "classes")
    return ", ".join([classes, *splits])


def _others(model_dir: str, was: RunData, now: RunData) -> str:
    if _other_settings(was, now):
        return f"{model_dir} has had other splits"
    return f"{now.data_dir} does not hold the data of {model_dir} any more"


def _back(was: RunData, now: RunData) -> str:
    if settings := _other_settings(was, now):
        return f"set {' and '.join(settings)} again"
    return f"put the old data back (they lay in {was.data_dir})"


def _other_settings(was: RunData, now: RunData) -> list[str]:
    """Return what named the splits of a run, where it is the settings that differ."""
    if was.label_names != now.label_names:
        return []
    return [
        f"Experiment.{setting} = {old.split!r}"
        for setting, old, new in (
            ("train_split", was.training, now.training),
            ("eval_split", was.evaluation, now.evaluation),
        )
        if old and new and old.split != new.split
    ]


def _outputs_of_others(was: RunData, now: RunData, experiment: Experiment) -> int:
    """Return the outputs of the network where the data do not fit them any more."""
    before, classes = len(was.label_names), len(now.label_names)
    settings = getattr(experiment.build_model, "keywords", {})
    outputs = settings.get("num_classes", 0)
    if outputs is None:  # as many as the data had classes
        return before if before != classes else 0
    return outputs if isinstance(outputs, int) and outputs < classes else 0


def _consequences(was: RunData, now: RunData, experiment: Experiment) -> list[str]:
    """Return what other data do to a run, beside what they are."""
    old, new = (experiment.steps_of(one.training.images) for one in (was, now))
    found = []
    if old != new:
        found.append(
            f"{was.training.images:,} images, {old:,} steps -> "
            f"{now.training.images:,} images, {new:,} steps"
        )
    if was.label_names != now.label_names and _same_records(was, now):
        found.append("the records are the same, so the weights keep their meaning")
    return found


def _same_records(was: RunData, now: RunData) -> bool:
    """Whether the training images are known to be the same."""
    return was.training.digest == now.training.digest != ""


def _warn_of_missing_digests(was: RunData, now: RunData) -> None:
    """Say of data that agree as far as anybody knows that nobody knows all."""
    if now.has_digests and was.has_digests:
        return
    if now.has_digests:
        warn(
            f"the images in {now.data_dir} were not compared with those that the run "
            "began with, only their numbers and sizes: they had no digest then"
        )
        return
    warn(
        f"{now.data_dir} has no digest: its images are not compared, only their "
        "numbers and sizes; the python -m input_pipeline.prepare that has made it adds "
        "one"
    )


def _completed(now: RunData, was: RunData) -> RunData:
    """Return data of now with what only the run knew of the same data before."""
    evaluation = now.evaluation or was.evaluation
    if now.evaluation and was.evaluation:
        evaluation = _completed_split(now.evaluation, was.evaluation)
    training = _completed_split(now.training, was.training)
    return dataclasses.replace(now, training=training, evaluation=evaluation)


def _completed_split(now: SplitData, was: SplitData) -> SplitData:
    return dataclasses.replace(
        now,
        digest=now.digest or was.digest,
        of_classes=was.of_classes if now.of_classes is None else now.of_classes,
    )
