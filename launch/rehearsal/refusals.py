"""What a pod would refuse, and a machine of one's own does not."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework import kernels

from common import gfiles
from common.console import named
from common.errors import UserError
from launch.rehearsal.pipelines import HERE, Pipeline
from launch.rehearsal.replication import Program
from launch.rehearsal.shim import changed
from launch.rehearsal.workers import SliceShape
from train.experiment import Experiment

_PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
_IGNORE_STATE = 1  # of external_state_policy
_WITHOUT_GROUPS = 8  # as train/distribution/replica has it
# What the TPU's own pass takes away before XLA sees the program.
_OF_TPUS = frozenset({"TPUReplicateMetadata", "CrossReplicaSum"})


def local_data(
    experiment: Experiment, on: SliceShape, shared_paths: Iterable[str]
) -> Iterator[str]:
    """Yield what is wrong with where the data lie, for hosts that each read them.

    Args:
      experiment: as it is meant.
      on: the slice.
      shared_paths: folders that lie on every host, by the user's word.
    """
    path = experiment.data_dir
    if on.hosts == 1 or gfiles.local_path(path) is None:
        return
    if not os.path.isabs(path):
        yield (
            f"Experiment.data_dir = {path!r} starts from the folder of this process, "
            f"and each of the {on.hosts} hosts reads the data itself, from another "
            "one: put them on gs://, or name the whole path if every host has them"
        )
    elif not any(_is_within(path, folder) for folder in shared_paths):
        yield (
            f"Experiment.data_dir = {path!r} is a folder of this machine, and each of "
            f"the {on.hosts} hosts reads the data itself: put them on gs://, or say "
            f"--shared_path={path} if every host has them there"
        )


def _is_within(path: str, folder: str) -> bool:
    path, folder = (os.path.join(os.path.normpath(p), "") for p in (path, folder))
    return path.startswith(folder)


def not_divided(experiment: Experiment, on: SliceShape) -> Iterator[str]:
    """Yield why the batches that are meant cannot be divided among the replicas."""
    try:
        experiment.check_replicas(on.replicas)
    except UserError as error:
        yield str(error)


def without_groups(experiment: Experiment, on: SliceShape) -> Iterator[str]:
    """Yield that a larger slice has groups of batch norm, which this one has not."""
    if experiment.batch_norm == "reference" and on.replicas <= _WITHOUT_GROUPS:
        yield (
            "batch norm of the 'reference' has groups above "
            f"{_WITHOUT_GROUPS} replicas alone: a larger slice sums over replicas "
            "where this one does not, see --hosts and --cores"
        )


def python_in(pipeline: Pipeline) -> Iterator[str]:
    """Yield the Python functions that a pipeline calls.

    TensorFlow has them run in the process that has made them, and gives the workers of
    a slice "localhost" as its address: on another machine that is somebody else. One
    host alone is this process itself, and may call them.
    """
    if pipeline.hosts == 1:
        return
    found = _kinds(pipeline.of_host(0)) & _PYTHON
    if found:
        yield (
            f"the {pipeline.name} pipeline calls Python ({', '.join(sorted(found))}: "
            "tf.py_function, tf.numpy_function or Dataset.from_generator), and the "
            f"{pipeline.hosts} hosts cannot call this process: write it with "
            "TensorFlow's operations"
        )


def copied_state(pipeline: Pipeline) -> Iterator[str]:
    """Yield that a pipeline holds what each host gets a copy of, to change by itself.

    No slice refuses it.
    """
    if "VarHandleOp" in _kinds(pipeline.of_host(0)):
        yield (
            f"the {pipeline.name} pipeline holds a variable (a tf.Variable, or a "
            "tf.random.Generator): each host has a copy of its own, all from the same "
            "value, and no checkpoint has it"
        )


def local_files(pipeline: Pipeline, known: Sequence[str]) -> Iterator[str]:
    """Yield the files of this machine that a pipeline of several hosts names.

    Args:
      pipeline: to look through.
      known: folders that are judged elsewhere, or that every host has.
    """
    if pipeline.hosts == 1:
        return
    nodes = _nodes(pipeline.of_host(0))
    texts = {text for node in nodes for text in node.attr["value"].tensor.string_val}
    paths = sorted(os.fsdecode(text) for text in texts if _is_file(text))
    strange = [p for p in paths if not any(_is_within(p, folder) for folder in known)]
    if strange:
        yield (
            f"the {pipeline.name} pipeline names {named(strange)} of this machine, and "
            f"each of the {pipeline.hosts} hosts would look for it on its own disk: "
            "put it on gs://, or say --shared_path if every host has it there"
        )


def _is_file(text: bytes) -> bool:
    try:
        return os.path.isfile(text)
    except ValueError:  # bytes that are no name
        return False


def _nodes(dataset: tf.data.Dataset) -> list[Any]:
    """Return the nodes that a dataset and its functions are made of."""
    with tf.device(HERE):
        text = tf.raw_ops.DatasetToGraphV2(
            input_dataset=tf.data.experimental.to_variant(dataset),
            external_state_policy=_IGNORE_STATE,
        )
    graph = graph_pb2.GraphDef.FromString(text.numpy())
    functions = [function.node_def for function in graph.library.function]
    return [node for nodes in (graph.node, *functions) for node in nodes]


def _kinds(dataset: tf.data.Dataset) -> set[str]:
    return {node.op for node in _nodes(dataset)}


def without_kernel(programs: Iterable[Program]) -> Iterator[str]:
    """Yield the kinds of operations that XLA has no kernel for.

    The kernels are those of this TensorFlow for CPUs: a TPU's differ in a few, which
    the compiler alone knows.

    Args:
      programs: that were traced.

    Raises:
      UserError: this TensorFlow does not tell.
    """
    if not _has_kernel("AddV2"):
        raise changed("XLA's kernels are not listed")
    examples = {k: name for program in programs for k, name in program.examples.items()}
    for kind in sorted(examples.keys() - _OF_TPUS):
        if not _has_kernel(kind):
            yield (
                f"the step has an operation {kind} ({examples[kind]}), for which XLA "
                "has no kernel: a TPU cannot run it"
            )


def _has_kernel(kind: str) -> bool:
    found = kernels.get_registered_kernels_for_op(kind).kernel
    return any(kernel.device_type == "XLA_CPU_JIT" for kernel in found)
