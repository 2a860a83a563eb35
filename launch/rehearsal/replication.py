"""What the runtime does to a TPU's program before it runs, done on its graph."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.tpu import tpu

from launch.rehearsal.graph_copy import IN_PROGRAM, ON_HOST, GraphCopy, called, key


@dataclasses.dataclass(frozen=True)
class Program:
    """A program that was traced for all cores.

    Attributes:
      cores: that run it.
      ops: how many of each kind it has, with the functions that it calls.
      examples: the name of one of each kind.
      captures: tensors that come from outside.
    """

    cores: int
    ops: Mapping[str, int]
    examples: Mapping[str, str]
    captures: int


programs: list[Program] = []  # of this process, as they were traced


def replicate(computation: Callable, inputs: Any, **options: Any) -> Any:
    """Do as `tpu.replicate`, and then as the pass that the runtime has for TPUs.

    The real one traces the program once, into a graph of its own here. That graph is
    copied into the caller's, its marked part once for every core.

    Args:
      computation: of a replica.
      inputs: of it, a list for each replica.
      **options: of `tpu.replicate`.
    """
    outer = tf.compat.v1.get_default_graph()
    traced = FuncGraph("tpu_program")
    with traced.as_default():
        outputs = tpu.replicate(computation, inputs, **options)
    extended: Any = tf.distribute.get_strategy().extended
    cores = [str(device) for device in extended._tpu_devices[:, 0]]
    copy = GraphCopy(outer, cores)
    for external, inside in traced.captures:
        copy.shared[key(inside)] = external
    programs.append(_describe(traced, len(cores)))
    copy.copy_all(traced)
    return tf.nest.map_structure(copy.found, outputs, expand_composites=True)


def _describe(traced: Any, cores: int) -> Program:
    kinds = collections.Counter()
    examples: dict[str, str] = {}
    for op in _program_ops(traced):
        kinds[op.type] += 1
        examples.setdefault(op.type, op.name)
    return Program(cores, kinds, examples, len(traced.captures))


def _program_ops(graph: tf.Graph) -> Iterator[tf.Operation]:
    """Yield the operations that a core runs."""
    stack = [graph]
    while stack:
        of = stack.pop()
        for op in of.get_operations():
            marks = op.node_def.attr
            if ON_HOST in marks or (of is graph and IN_PROGRAM not in marks):
                continue
            if op.type != "Placeholder":  # that of a function is an argument
                yield op
            stack += called(op, of)
