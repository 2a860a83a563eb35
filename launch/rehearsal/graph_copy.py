"""A TPU's program, once for every core.

`tpu.replicate` traces one program and marks it. Here its operations are copied, once
for every core and onto its device, and the rest once:

    TPUReplicatedInput(a, b)             a              b
            |                            |              |
          Conv2D               =>     Conv2D        Conv2D_core_1
            |                            |              |
     CrossReplicaSum                     +------ + -----+
            |                            |              |
    TPUReplicatedOutput              Identity    Identity_core_1
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import tensor_util
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.ops import control_flow_util_v2

from common.errors import UserError

IN_PROGRAM = "_tpu_replicate"  # attribute of what tpu.replicate has marked
ON_HOST = "_xla_outside_compilation"  # ... and of what of it stays on the host
_DROPPED_ATTRIBUTES = ("_tpu", "_xla_outside", "_class")
# What the runtime's pass knows and this one does not.
_UNKNOWN = frozenset(
    {"AllToAll", "CollectivePermute", "InfeedDequeueTuple", "OutfeedEnqueueTuple"}
)
_LOWERED = "_lower_using_switch_merge"
_LOOPS = ("While", "StatelessWhile")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")

_Key = tuple[str, int]


def key(tensor: tf.Tensor) -> _Key:
    """Return what tells a tensor from others of its graph."""
    return tensor.op.name, tensor.value_index


def called(op: tf.Operation, source: Any) -> list[Any]:
    """Return the graphs of the functions that an operation calls."""
    values = op.node_def.attr.values()
    names = [f.name for value in values for f in [value.func, *value.list.func]]
    return [source._get_function(name).graph for name in names if name]


def _sums(op: tf.Operation, source: Any) -> bool:
    """Whether a function that an operation calls, or one within, sums over cores."""
    return any(
        inner.type == "CrossReplicaSum" or _sums(inner, graph)
        for graph in called(op, source)
        for inner in graph.get_operations()
    )


class GraphCopy:
    """Copies graphs into another one: a program once a core, what is around it once.

    Attributes:
      shared: tensors that are the same for all cores, by the key of their source.
      own: tensors of each core.
    """

    def __init__(self, graph: Any, cores: Sequence[str], *, is_function: bool = False):
        """Copy nothing yet.

        Args:
          graph: to copy into.
          cores: devices.
          is_function: whether all that is copied is of the program, marked or not.
        """
        self.shared: dict[_Key, Any] = {}
        self.own: dict[_Key, Any] = {}
        self._graph = graph
        self._cores = cores
        self._is_function = is_function
        self._copies: dict[str, list[Any]] = {}  # by the name of an operation

    def found(self, value: Any) -> Any:
        """Return the copy of a tensor or an operation outside the program."""
        if isinstance(value, tf.Operation):
            (only,) = self._copies[value.name]
            return only
        return value if value is None else self.shared[key(value)]

    def copy_all(self, source: Any) -> None:
        """Copy all operations, but those whose outputs are known: placeholders.

        Raises:
          UserError: one of them is nothing that can be rehearsed.
        """
        known = self.shared.keys() | self.own.keys()
        for op in source.get_operations():
            if not op.outputs or key(op.outputs[0]) not in known:
                self._copy(op, source)

    def _copy(self, op: tf.Operation, source: Any) -> None:
        markers = {
            "TPUReplicatedInput": self._divide,
            "TPUReplicatedOutput": self._gather,
            "TPUReplicateMetadata": self._forget,
            "TPUCompilationResult": self._forget,
        }
        if op.type in markers:
            markers[op.type](op)
        elif not self._is_function and IN_PROGRAM not in op.node_def.attr:
            self._copy_once(op, source)
        elif op.type in _UNKNOWN:
            raise _refusal(op, "is not known to it")
        elif op.type == "CrossReplicaSum":
            self._sum(op)
        elif op.type in _LOOPS and _sums(op, source):
            self._loop(op, source)
        elif op.type in _CALLS and _sums(op, source):
            self._call(op, source)
        elif op.type in _BRANCHES and _sums(op, source):
            raise _refusal(op, "sums over replicas in a branch")
        else:
            self._copy_for_each(op, source)

    def _divide(self, op: tf.Operation) -> None:
        given = self._inputs(op)  # a packed variable is one for all
        self.own[key(op.outputs[0])] = given * (len(self._cores) // len(given))
        self._copies[op.name] = []

    def _gather(self, op: tf.Operation) -> None:
        values = self.own[key(op.inputs[0])]
        self.shared |= dict(zip(map(key, op.outputs), values, strict=True))
        self._copies[op.name] = []

    def _forget(self, op: tf.Operation) -> None:
        self._copies[op.name] = [self._make(op, "NoOp", [], {}, dtypes=[])]
        self.shared |= {key(output): tf.constant(b"") for output in op.outputs}

    def _copy_once(self, op: tf.Operation, source: Any) -> None:
        attributes = self._attributes(op, source)
        made = self._make(op, op.type, self._inputs(op), attributes, device=op.device)
        self._copies[op.name] = [made]
        self.shared |= dict(zip(map(key, op.outputs), made.outputs, strict=True))

    def _copy_for_each(self, op: tf.Operation, source: Any) -> None:
        attributes = self._attributes(op, source)
        made = []
        for core, device in enumerate(self._cores):
            if ON_HOST in op.node_def.attr:
                spec = tf.DeviceSpec.from_string(device)
                device = spec.replace(device_index=0).to_string()
            inputs = self._inputs(op, core)
            made.append(
                self._make(op, op.type, inputs, attributes, device=device, core=core)
            )
        self._copies[op.name] = made
        for index, output in enumerate(op.outputs):
            self.own[key(output)] = [one.outputs[index] for one in made]

    def _sum(self, op: tf.Operation) -> None:
        """Add in the order of the replicas, as MirroredStrategy's AddN does.

        Two by two: a worker reorders the inputs of an AddN.
        """
        values = self.own[key(op.inputs[0])]
        attributes = {"T": _attribute(type=op.inputs[0].dtype.as_datatype_enum)}
        made: dict[int, Any] = {}
        for group in tensor_util.constant_value(op.inputs[1]).tolist():
            total, *others = (values[core] for core in group)
            adds = {"device": self._cores[group[0]], "name": f"{op.name}_sum"}
            for value in others:
                add = self._make(op, "AddV2", [total, value], attributes, **adds)
                total = add.outputs[0]
            for core in group:
                at = {"device": self._cores[core], "core": core}
                made[core] = self._make(op, "Identity", [total], attributes, **at)
        self._copies[op.name] = [made[core] for core in range(len(values))]
        self.own[key(op.outputs[0])] = [one.outputs[0] for one in self._copies[op.name]]

    def _call(self, op: tf.Operation, source: Any) -> None:
        """Put a function in place of its call."""
        function = source._get_function(op.node_def.attr["f"].func.name).graph
        copy = GraphCopy(self._graph, self._cores, is_function=True)
        for inside, given in zip(function.inputs, op.inputs, strict=True):
            copy.own[key(inside)] = self._of_all(given)
        copy.copy_all(function)
        self._copies[op.name] = copy.controls(function)
        for output, inside in zip(op.outputs, function.outputs, strict=True):
            self.own[key(output)] = copy._of_all(inside)

    def _loop(self, op: tf.Operation, source: Any) -> None:
        """Make one loop of all cores' loops: they take equally many turns."""
        condition, answers = self._function(op, source, "cond")
        condition.outputs = [answers[0][0]]
        body, results = self._function(op, source, "body")
        body.outputs = [value for values in results for value in values]
        names = map(control_flow_util_v2.create_new_tf_function, (condition, body))
        given = [value for tensor in op.inputs for value in self._of_all(tensor)]
        dtypes = [value.dtype for value in given]
        shapes = [output.shape.as_proto() for output in op.outputs for _ in self._cores]
        attributes = {
            "T": _attribute(list=_list(type=[d.as_datatype_enum for d in dtypes])),
            "cond": _attribute(func={"name": next(names)}),
            "body": _attribute(func={"name": next(names)}),
            "output_shapes": _attribute(list=_list(shape=shapes)),
            "parallel_iterations": op.node_def.attr["parallel_iterations"],
            _LOWERED: _attribute(b=True),
        }
        made = self._make(op, op.type, given, attributes, dtypes=dtypes)
        self._copies[op.name] = [made]
        count = len(self._cores)
        for index, output in enumerate(op.outputs):
            self.own[key(output)] = made.outputs[index * count : (index + 1) * count]

    def _function(
        self, op: tf.Operation, source: Any, attribute: str
    ) -> tuple[Any, list[Sequence[tf.Tensor]]]:
        """Return a graph in which a function stands for every core, and its outputs."""
        function = source._get_function(op.node_def.attr[attribute].func.name).graph
        graph = FuncGraph(control_flow_util_v2.unique_fn_name(op.name, attribute))
        graph.outer_graph = self._graph
        copy = GraphCopy(graph, self._cores, is_function=True)
        with graph.as_default():
            for given in function.inputs:
                places = [_placeholder(given) for _ in self._cores]
                copy.own[key(given)] = places
                graph.inputs.extend(places)
        copy.copy_all(function)
        graph.control_outputs = copy.controls(function)
        return graph, [copy._of_all(output) for output in function.outputs]

    def controls(self, function: Any) -> list[Any]:
        """Return the copies of what a function does without an output."""
        return [one for op in function.control_outputs for one in self._copies[op.name]]

    def _of_all(self, tensor: tf.Tensor) -> Sequence[tf.Tensor]:
        if key(tensor) in self.own:
            return self.own[key(tensor)]
        return [self.shared[key(tensor)]] * len(self._cores)

    def _inputs(self, op: tf.Operation, core: int = 0) -> list[tf.Tensor]:
        return [
            self.own[key(t)][core] if key(t) in self.own else self.shared[key(t)]
            for t in op.inputs
        ]

    def _make(
        self,
        op: tf.Operation,
        kind: str,
        inputs: Sequence[tf.Tensor],
        attributes: dict[str, Any],
        *,
        device: str | None = None,
        core: int | None = None,
        dtypes: Sequence[tf.DType] | None = None,
        name: str | None = None,
    ) -> Any:
        """Make an operation in place of another one, that waits for the same."""
        if dtypes is None:
            dtypes = [output.dtype for output in op.outputs]
        name = (name or op.name) + (f"_core_{core}" if core else "")
        with (
            self._graph.as_default(),
            tf.compat.v1.name_scope(None),
            tf.control_dependencies(None),
        ):
            made = self._graph._create_op_internal(
                kind, inputs, dtypes, name=name, attrs=attributes, compute_device=False
            )
        if waits := self._waits(op, core):
            made._add_control_inputs(waits)
        if device:
            made._set_device_from_string(device)
        return made

    def _waits(self, op: tf.Operation, core: int | None) -> list[Any]:
        waits = []
        for before in op.control_inputs:
            copies = self._copies[before.name]
            is_shared = len(copies) < len(self._cores)
            waits += copies if core is None or is_shared else [copies[core]]
        return waits

    def _attributes(self, op: tf.Operation, source: Any) -> dict[str, Any]:
        """Return those of an operation; the functions that they name come along."""
        result = {}
        for name, value in op.node_def.attr.items():
            if name.startswith(_DROPPED_ATTRIBUTES):
                continue
            result[name] = value
            for function in [value.func, *value.list.func]:
                if function.name and not self._graph._is_function(function.name):
                    found = source._get_function(function.name)
                    self._graph._add_function_recursive(found)
        if op.type in (*_LOOPS, *_BRANCHES):
            # TensorFlow leaves it to XLA in what it traces for a TPU. Where it is not
            # set, the CPU rounds otherwise.
            result[_LOWERED] = _attribute(b=True)
        return result


def _placeholder(given: tf.Tensor) -> Any:
    place: Any = tf.compat.v1.placeholder(given.dtype, given.shape)
    if given.dtype == tf.resource:
        place._handle_data = getattr(given, "_handle_data", None)
    return place


def _attribute(**value: Any) -> Any:
    return tf.compat.v1.AttrValue(**value)


def _list(**values: Any) -> Any:
    return tf.compat.v1.AttrValue.ListValue(**values)


def _refusal(op: tf.Operation, why: str) -> UserError:
    return UserError(
        f"the rehearsal cannot run {op.type} ({op.name}), which {why}; a TPU may: "
        "python -m preflight compiles the step"
    )
