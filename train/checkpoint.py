"""Checkpoints: where they lie, how they fail, how they come back."""

import re
from collections.abc import Mapping

import tensorflow as tf

from train.errors import UserError

# How TensorFlow names the entries of the dictionary `variables` in its files.
_PREFIX, _SUFFIX = "variables/", "/.ATTRIBUTES/VARIABLE_VALUE"


class CheckpointManager(tf.train.CheckpointManager):
    """TensorFlow's manager, whose failed save leaves the last good one in charge."""

    def __init__(
        self,
        variables: Mapping[str, tf.Variable],
        model_dir: str,
        directory: str,
        **options,
    ):
        """Makes a manager.

        Args:
          variables: by name, see `train.state`.
          model_dir: where checkpoints are restored from.
          directory: where this process writes; a folder of its own for the workers
            that have to take part in a save but do not keep it.
          **options: TensorFlow's.
        """
        saved = tf.train.Checkpoint(variables=dict(variables))
        super().__init__(saved, directory, **options)
        self._variables = variables
        self._model_dir = model_dir
        self._saved: int | None = None  # step of the newest checkpoint
        self.remove_leftovers()

    def restore_newest(self, strategy: tf.distribute.Strategy) -> None:
        """Fills the variables from the newest checkpoint, if there is one."""
        path = newest(self._model_dir)
        if path:
            with strategy.scope():
                restore(self._variables, path)
            self._saved = step(path)

    def restore_or_initialize(self) -> None:
        """Does nothing: Orbit's controller calls this, after restore_newest."""

    def save(
        self, checkpoint_number: int, check_interval: bool = True, options=None
    ) -> str | None:
        """Saves when the next multiple of the interval is reached, or when told to.

        TensorFlow would count the interval from wherever this process began.

        Raises:
          UserError: the file system refuses.
        """
        passed = checkpoint_number // self.checkpoint_interval
        if check_interval and passed == (self._saved or 0) // self.checkpoint_interval:
            return None
        if checkpoint_number == self._saved:
            return None  # a good checkpoint is not written over
        try:
            path = super().save(
                checkpoint_number, check_interval=False, options=options
            )
        except (tf.errors.OpError, OSError) as error:
            self.remove_leftovers()
            last = newest(self._model_dir) or "none yet"
            raise UserError(
                f"cannot write a checkpoint to {self.directory}: "
                f"{first_line(error)}; the last good one is {last}. Free some space "
                "or mend the permissions, then run the same command: it goes on there"
            ) from error
        self._saved = checkpoint_number
        return path

    def remove_leftovers(self) -> None:
        """Deletes what a save that was cut short has left behind, and nothing else."""
        gfile = tf.io.gfile
        for path in gfile.glob(f"{self.directory}/ckpt-*"):
            name = path.split("/")[-1]
            if re.fullmatch(r"ckpt-\d+_temp", name):
                gfile.rmtree(path)
            # The index is written last: without it the data are not whole.
            data = re.fullmatch(r"(ckpt-\d+)\.data-.*", name)
            if data and not gfile.exists(f"{self.directory}/{data[1]}.index"):
                gfile.remove(path)


def first_line(error: Exception) -> str:
    """Returns the part of an error that a person reads."""
    text = getattr(error, "message", None) or str(error)
    text = re.sub(r"\{\{.*?\}\} ?|\[Op:\w+\]", "", text)  # names of graph nodes
    return (
        str(text).strip().splitlines()[0] if str(text).strip() else type(error).__name__
    )


def newest(model_dir: str) -> str | None:
    """Returns the newest whole checkpoint's path, None when there is none.

    The files themselves are asked, not TensorFlow's list of them in `checkpoint`: it
    may be missing after a copy, or name one that was deleted.
    """
    paths = tf.io.gfile.glob(f"{model_dir}/ckpt-*.index")
    steps = [re.fullmatch(r".*/ckpt-(\d+)\.index", path) for path in paths]
    found = [f"{model_dir}/ckpt-{n}" for n in sorted(int(m[1]) for m in steps if m)]
    whole = [path for path in found if tf.io.gfile.glob(f"{path}.data-*")]
    return whole[-1] if whole else None


def latest(model_dir: str) -> str:
    """Returns the newest whole checkpoint's path; UserError when there is none."""
    path = newest(model_dir)
    if path is None:
        raise UserError(
            f"no checkpoint in {model_dir}; train first "
            f"(python -m train.main --mode=train --model_dir={model_dir} ...)"
        )
    return path


def restore(
    variables: Mapping[str, tf.Variable], path: str, *, partly: bool = False
) -> None:
    """Fills every variable from the checkpoint at `path`.

    Args:
      variables: by name, see `train.state`.
      path: of the checkpoint.
      partly: whether the file may hold more than is asked for.

    Raises:
      UserError: the file cannot be read; or, before anything is restored: it lacks a
        variable, has it in another shape or (unless `partly`) holds one more.
    """
    try:
        faults = mismatches(variables, path, partly=partly)
        if not faults:
            status = tf.train.Checkpoint(variables=dict(variables)).restore(path)
            status.assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, ValueError, IndexError) as error:  # IndexError: cut off
        raise UserError(
            f"cannot read the checkpoint {path}: {first_line(error)}; delete its files "
            "to go on from the one before, or take another --model_dir"
        ) from error
    if faults:
        raise UserError(
            f"{path} does not fit this run: {faults[0]}"
            + f" (and {len(faults) - 1} more)" * (len(faults) > 1)
            + "; another model or optimizer wrote it, take another --model_dir"
        )


def mismatches(
    variables: Mapping[str, tf.Variable], path: str, *, partly: bool
) -> list[str]:
    """Returns what tells the variables from those in the file, a line each."""
    here = {name: variable.shape.as_list() for name, variable in variables.items()}
    there = {
        key.removeprefix(_PREFIX).removesuffix(_SUFFIX).replace(".S", "/"): shape
        for key, shape in tf.train.load_checkpoint(path)
        .get_variable_to_shape_map()
        .items()
        if key.startswith(_PREFIX)
    }
    names = here.keys() if partly else here.keys() | there.keys()
    return [
        f"{name} has the shape {there.get(name, 'none')} there, "
        f"{here.get(name, 'none')} here"
        for name in sorted(names)
        if here.get(name) != there.get(name)
    ]


def step(path: str) -> int:
    """Returns the number of updates that the checkpoint at `path` has seen."""
    return int(tf.train.load_variable(path, f"{_PREFIX}step{_SUFFIX}"))
