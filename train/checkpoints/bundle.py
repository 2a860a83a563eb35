"""The three files of a checkpoint: staged, verified, then committed.

`ckpt-<step>.data-00000-of-00001` and `ckpt-<step>.index` are a tensor bundle of
TensorFlow's, which tf.train.load_checkpoint reads, with plain names of tensors. The
index vouches for every tensor by a CRC, and `ckpt-<step>.json`, the manifest, for the
index by its SHA-256.

A checkpoint exists if its index does: that one gets its name last and loses it first.
So a process that is killed leaves the old state or the new one, and nothing between.
So does a machine that loses its power: each file is on the disk before it is renamed,
each name before the next. A checkpoint that was written is there, or the disk has
lied; what was under way has no index, or is still staged. On gs:// a file is there for
good once it is closed.
"""

import contextlib
import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from common import files, gfiles, storage_errors
from common.claims import Fence, Held, no_fence
from common.console import warn
from common.errors import Restart, UserError, first_line
from train.checkpoints import commit
from train.checkpoints.commit import DATA, INDEX, MANIFEST
from train.distribution import slices

# The folder of a write under way; "aside" is what earlier versions called it.
_STAGING = re.compile(r"\.(staging|aside)-[0-9a-f]{32}")
# What is in it, also where SaveV2 was killed on a disk.
_STAGED = re.compile(
    r"ckpt-(0|[1-9]\d*)(\.json|(\.index|\.data-00000-of-00001)(\.tempstate\d+)?)"
)
# What reading a manifest of any content raises.
_GARBLED = (ValueError, TypeError, OverflowError, RecursionError)

_PREEMPTED = "preempted"  # of a manifest
_UNREAD = object()  # is no run
_MOST_BYTES = 2**28  # of a manifest or an index: 10,000 variables take 1 MB

gfile = tf.io.gfile


class CorruptCheckpoint(UserError):  # noqa: N818 (a state, whoever finds it)
    """A checkpoint that is not what was once written, or is gone.

    Attributes:
      path: of the checkpoint.
      reason: what is wrong there.
    """

    def __init__(self, path: str, reason: str):
        super().__init__(
            f"cannot read the checkpoint {path}: {reason}; delete its files to use the "
            "one before, or copy them there again"
        )
        self.path = path
        self.reason = reason


def step(path: str) -> int:
    """Return the number of updates that the checkpoint at `path` has seen."""
    return int(path.rpartition("-")[2])


def steps(directory: str, suffix: str = INDEX) -> set[int]:
    """Return the steps of the checkpoints in a folder that have this file."""
    pattern = re.compile(r"ckpt-(0|[1-9][0-9]*)" + re.escape(suffix))
    return {int(m[1]) for m in map(pattern.fullmatch, _listed(directory)) if m}


def parts_of(directory: str, run: str | None) -> set[int]:
    """Return the steps of which a write or a deletion of a run was cut short.

    What does not name the run, as where somebody is copying a checkpoint there, is not
    among them.

    Raises:
      UserError, Restart: see `read_manifest`.
    """
    return {
        step
        for step in steps(directory, MANIFEST) - steps(directory)
        if _named_run(f"{directory}/ckpt-{step}") == run
    }


def _named_run(path: str) -> Any:
    """Return the run that a manifest names; a checkpoint need not be there."""
    with contextlib.suppress(CorruptCheckpoint), _reading(path):
        return json.loads(_content(f"{path}{MANIFEST}"))["run"]
    return _UNREAD


def read_manifest(path: str) -> dict[str, Any]:
    """Return the manifest of the checkpoint at `path`, which its files fit.

    This is cheap: of the tensors only the number of their bytes is looked at.

    Raises:
      CorruptCheckpoint: a file is missing or is not what the manifest says.
      UserError: it may not be read.
      Restart: the storage does not answer now.
    """
    with _reading(path):
        found = json.loads(_content(f"{path}{MANIFEST}"))
        # Those of earlier versions belong to nobody.
        fitting = _describe(
            path,
            found["tensors"],
            float(found["time"]),
            found.get("run"),
            found.get(_PREEMPTED, False),
        )
        for key, value in fitting.items():
            if key != "run" and found[key] != value:
                raise CorruptCheckpoint(path, f"its {key} is {value}, not {found[key]}")
        return fitting


def is_undisturbed(path: str) -> bool:
    """Whether a run that no SIGTERM meets has written a checkpoint, too.

    So are those of earlier versions, which do not say, and those that are corrupt.
    """
    with contextlib.suppress(CorruptCheckpoint):
        return _PREEMPTED not in read_manifest(path)
    return True


def read(path: str, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read tensors of a checkpoint; not one byte can differ from what was written.

    Args:
      path: of the checkpoint, what stands before .index.
      names: of tensors that it holds, see `shapes_and_types`; None reads all.

    Raises:
      CorruptCheckpoint: the manifest, the index or one of these tensors
        is not intact.
      UserError, Restart: see `read_manifest`.
    """
    return dict(_tensors(path, names))


def shapes_and_types(path: str) -> dict[str, tuple[list[int], str]]:
    """Return shape and dtype of every tensor of a checkpoint; raises as `read`."""
    reader = _open(path)
    dtypes = reader.get_variable_to_dtype_map()
    return {
        name: (list(shape), dtypes[name].name)
        for name, shape in reader.get_variable_to_shape_map().items()
    }


def write(
    values: Mapping[str, np.ndarray],
    directory: str,
    *,
    run: str | None = None,
    preempted: bool = False,
    fence: Fence = no_fence,
) -> str:
    """Write a checkpoint and read it back before it gets its name.

    Args:
      values: by name; "step", an integer scalar, is one of them.
      directory: where to, local or gs://; it is made if need be. No other process
        writes there.
      run: that it belongs to, see `ownership`.
      preempted: whether SIGTERM has it written, see `is_undisturbed`.
      fence: called before it gets its name; what it raises leaves all as it was.

    Returns:
      The path of the checkpoint, which replaces one of the same step.

    Raises:
      UserError: the file system refuses, or returns something else.
      Restart: the storage does not answer.
    """
    with _writing(directory, fence) as staging:
        path = f"{staging}/ckpt-{int(values['step'])}"
        with tf.device(slices.own_cpu()):
            tf.raw_ops.SaveV2(
                prefix=path,
                tensor_names=list(values),
                shape_and_slices=[""] * len(values),
                tensors=[tf.constant(value) for value in values.values()],
            )
        manifest = _describe(path, len(values), time.time(), run, preempted)
        with gfile.GFile(f"{path}{MANIFEST}", "w") as file:
            file.write(json.dumps(manifest))
        for name, value in _tensors(path, values):
            if value.tobytes() != values[name].tobytes():
                raise OSError(f"{name} reads back other than it was written")
        return commit.commit(path, directory, fence)


def copy(path: str, directory: str, *, fence: Fence = no_fence) -> str:
    """Copy a checkpoint as `write` writes one.

    Args:
      path: of the checkpoint.
      directory: where to, as for `write`.
      fence: as for `write`.

    Returns:
      The path of the copy. If it is there already, nothing happens.

    Raises:
      CorruptCheckpoint: the checkpoint is not intact, or vanishes meanwhile.
      UserError: the file system refuses, or returns something else.
      Restart: the storage does not answer.
    """
    source = read_manifest(path)
    name = path.rpartition("/")[2]
    with contextlib.suppress(CorruptCheckpoint):  # no such copy, or no good one
        if read_manifest(f"{directory}/{name}") == source:
            _verify(f"{directory}/{name}")
            return f"{directory}/{name}"
    try:
        with _writing(directory, fence) as staging:
            for suffix in commit.ORDER:
                gfiles.copy(f"{path}{suffix}", f"{staging}/{name}{suffix}")
            _verify(f"{staging}/{name}")
            return commit.commit(f"{staging}/{name}", directory, fence)
    except Held:
        raise
    except UserError:
        _verify(path)  # if it is to blame, this says so
        raise


def delete(path: str, *, fence: Fence = no_fence, also: Iterable[str] = ()) -> None:
    """Delete a checkpoint, or what is left of it; errors of `storage_errors`.

    Args:
      path: of the checkpoint.
      fence: called before each file is deleted.
      also: other files that go with it, last.
    """
    its = (f"{path}{suffix}" for suffix in reversed(commit.ORDER))
    try:
        for file in (*its, *also):
            commit.remove(file, fence)
    except tf.errors.OpError as error:
        what = f"cannot delete the old checkpoint {path}"
        raise storage_errors.cannot_write(path, error, what=what) from error


def remove_stale(directory: str) -> None:
    """Remove what writers that were killed have staged in `directory`.

    To be called when the one process that writes there begins, before it looks at what
    is there. Another that still lives, or was taken for dead, fails from then on and
    does no harm, see `commit`. What has such a name and is not ours stays, with a
    warning.
    """
    try:
        for name in filter(_STAGING.fullmatch, _listed(directory)):
            if why := gfiles.remove_folder(f"{directory}/{name}", _STAGED.fullmatch):
                warn(f"{directory}/{name} stays: {why}; move it away")
    except (tf.errors.OpError, OSError) as error:
        what = f"cannot remove what was left in {directory}"
        raise storage_errors.cannot_write(directory, error, what=what) from error


def outdate_seen(directory: str) -> None:
    """Keep others from deleting what they have seen in a bucket, see `commit`."""
    commit.outdate(f"{directory}/ckpt-{step}{INDEX}" for step in steps(directory))


def _listed(directory: str) -> list[str]:
    """Return the names of what lies in a folder; none if there is no folder."""
    try:
        # Not isdir: it takes a bucket that it may not look at for an empty one.
        return gfiles.names(directory) if gfile.exists(directory) else []
    except tf.errors.OpError as error:
        raise storage_errors.cannot_read(directory, error) from error


def _open(path: str) -> Any:
    """Return TensorFlow's reader of a checkpoint with a good manifest."""
    expected = read_manifest(path)["tensors"]
    with _reading(path):
        try:
            # Not load_checkpoint, which would look into a folder of this name first.
            reader = tf.compat.v1.train.NewCheckpointReader(path)
        except tf.errors.OpError as error:
            # It does not say why. The index was intact: if it still is, that was
            # the storage.
            read_manifest(path)
            raise tf.errors.UnavailableError(None, None, first_line(error)) from error
        found = len(reader.get_variable_to_shape_map())
    if found != expected:
        raise CorruptCheckpoint(path, f"it holds {found} tensors, not {expected}")
    return reader


def _tensors(
    path: str, names: Iterable[str] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what `read` returns."""
    dtypes = _open(path).get_variable_to_dtype_map()
    names = list(dtypes if names is None else names)
    with _reading(path), tf.device(slices.own_cpu()):
        # All at once, which reads the file from front to back. A tensor at a time, by
        # the reader, is a request of a bucket for each, or the rest of the file; and
        # where that fails, the reader does not say why.
        values = tf.raw_ops.RestoreV2(
            prefix=path,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            dtypes=[dtypes[name] for name in names],
        )
    for name, value in zip(names, values, strict=True):
        if name == "step" and np.ndim(value) == 0 and int(value) != step(path):
            raise CorruptCheckpoint(path, f"it holds step {int(value)}")
        yield name, np.asarray(value)


def _verify(path: str) -> None:
    """Read every tensor of a checkpoint; raises as `read`."""
    for _ in _tensors(path):
        pass


def _describe(
    path: str, tensors: int, written: float, run: str | None, preempted: bool
) -> dict[str, Any]:
    """Return what the manifest of these files has to say."""
    index = _content(f"{path}{INDEX}")
    if gfiles.kind(f"{path}{DATA}") == files.LINK:
        gfiles.require_file(f"{path}{DATA}")  # a ring would be a storage that is busy
    return {
        "step": step(path),
        "time": written,  # in seconds since 1970
        "tensors": tensors,
        "data_bytes": gfile.stat(f"{path}{DATA}").length,
        "index_bytes": len(index),
        "index_sha256": hashlib.sha256(index).hexdigest(),
        "run": run,
        **({_PREEMPTED: True} if preempted else {}),
    }


def _content(path: str) -> bytes:
    gfiles.require_file(path)  # to read a pipe would wait for ever
    if gfile.stat(path).length > _MOST_BYTES:
        raise ValueError(f"{path} is larger than any of ours")
    return gfiles.read_bytes(path)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn what a broken file raises into CorruptCheckpoint, and only that."""
    try:
        yield
    except KeyError as error:
        raise CorruptCheckpoint(path, f"its manifest lacks {error}") from error
    except (*_GARBLED, tf.errors.OpError) as error:
        if storage_errors.is_busy(error, path) or storage_errors.is_denied(error):
            raise storage_errors.cannot_read(path, error) from error
        raise CorruptCheckpoint(path, first_line(error)) from error


@contextlib.contextmanager
def _writing(directory: str, fence: Fence) -> Iterator[str]:
    """Lend a folder to stage files in; errors are those of `storage_errors`.

    Who takes the folder over removes it, which goes wrong here: the fence tells.
    """
    staging = f"{directory}/.staging-{uuid.uuid4().hex}"
    what, ending = f"cannot write a checkpoint to {directory}", None
    try:
        gfiles.make_folders(staging)
        yield staging
    except Restart as error:
        ending = error
        raise
    except CorruptCheckpoint as error:
        fence()
        raise UserError(
            f"{what}: {error.reason}; look at the storage or name another folder"
        ) from error
    except (tf.errors.OpError, OSError) as error:
        ending = storage_errors.cannot_write(directory, error, what=what)
        fence()
        raise ending from error
    finally:
        # What cannot be removed now is removed when the next run starts. A bucket that
        # is busy would have this wait for as long again.
        if not (isinstance(ending, Restart) and storage_errors.is_remote(directory)):
            with contextlib.suppress(tf.errors.OpError, OSError):
                gfiles.remove_folder(staging, _STAGED.fullmatch)
