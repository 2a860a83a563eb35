"""The device's program: compiled once, static, nothing called back, one reduction."""

import json
import sys

import pytest
import tensorflow as tf

from input_pipeline.dataset_info import load_info
from tests.support import processes
from tests.support.runs import experiment_of, run_tiny
from train import stages, state, trainer

# Ops by which a graph calls Python, prints, or writes summaries.
CALLBACKS = ("PyFunc", "EagerPyFunc", "Print", "Summary", "HostCompute")


def graphs(function):
    """The graph of a concrete function, and of all that it calls."""
    yield function.graph.as_graph_def().node
    for called in function.graph.as_graph_def().library.function:
        yield called.node_def


@pytest.fixture(scope="module")
def trainers(digits, tmp_path_factory):
    """The trainers of a run of loops of 1, 2 and 3 steps."""
    made = []
    with pytest.MonkeyPatch.context() as patch:
        Trainer = trainer.Trainer  # noqa: N806
        patch.setattr(
            stages,
            "Trainer",
            lambda *a, **k: made.append(Trainer(*a, **k)) or made[-1],
        )
        run_tiny(
            digits,
            tmp_path_factory.mktemp("program"),
            **{"experiment.Experiment.steps_per_loop": 5},
        )
    return made


@pytest.mark.long
def test_traced_once(trainers):
    (trainer,) = trainers
    assert (trainer.loops, trainer.position) == (3, 12)
    assert trainer.calls > 3  # of 1, 3, 4, ... steps
    assert trainer.program.experimental_get_tracing_count() == 1


@pytest.mark.long
def test_calls_nothing_back(trainers):
    spec = trainers[0].program._list_all_concrete_functions()
    names = {node.op for graph in graphs(spec[0]) for node in graph}
    assert "IteratorGetNext" in names
    assert "StatelessWhile" in names or "While" in names
    found = [name for name in names if any(bad in name for bad in CALLBACKS)]
    assert found == []


def a_batch():
    return {
        "image": tf.zeros([20, 32, 32, 3], tf.uint8),
        "label": tf.zeros([20], tf.int32),
    }


@pytest.fixture(scope="module")
def one_step(digits):
    """The step on one device, as a function of a batch that XLA may compile."""
    experiment = experiment_of(digits)
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        train_state = state.create(experiment, load_info(str(digits)))
        made = trainer.Trainer(experiment, train_state, strategy, dataset=None)
    return tf.function(
        lambda batch: strategy.run(made.replica_step, args=(batch,)),
        jit_compile=True,
        autograph=False,
    )


@pytest.mark.long
def test_shapes_are_static(one_step):
    """And nothing is asserted, which a program for a TPU cannot do."""
    graph = one_step.get_concrete_function(a_batch()).graph
    assert "Assert" not in {op.type for op in graph.get_operations()}
    outputs = [tensor for op in graph.get_operations() for tensor in op.outputs]
    assert len(outputs) > 500
    unknown = [t.name for t in outputs if not t.shape.is_fully_defined()]
    assert unknown == []


@pytest.mark.long
def test_xla_takes_the_step(one_step):
    """With masks and all; the machine code of it is made in the slow tests."""
    program = one_step.experimental_get_compiler_ir(a_batch())(stage="hlo")
    assert program.count(" = ") > 1000
    assert "convolution(" in program


def compiled(digits, workers=1, **settings):
    command = [sys.executable, "-m", "tests.support.compile_process"]
    strategy = "one_device" if workers == 1 else "multi_worker"
    command += [strategy, str(digits), json.dumps(settings)]
    with processes.started(command, workers=workers) as group:
        said = [process.communicate(timeout=600) for process in group]
    assert [process.returncode for process in group] == [0] * workers, said
    return [json.loads(output) for output, _ in said]


@pytest.mark.slow
def test_xla_compiles_it_for_one_replica(digits):
    (program,) = compiled(digits, batch_norm="per_replica")
    assert program["instructions"] > 1000
    assert program["all_reduce_groups"] == []
    assert (program["custom_calls"], program["dynamic_shapes"]) == ({}, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{}, {"class_weights": {"3": 4.0}}],
    ids=["plain", "class_weights"],
)
def test_xla_compiles_it_for_two_replicas_with_one_reduction(digits, settings):
    """Loss, gradients, moving statistics and the sum of weights together."""
    for program in compiled(digits, workers=2, batch_norm="per_replica", **settings):
        assert program["all_reduce_groups"] == ["{{0,1}}"]
        assert (program["custom_calls"], program["dynamic_shapes"]) == ({}, 0)


@pytest.mark.slow
def test_shared_batch_norm_costs_two_reductions_a_layer(digits):
    """Two means forward, two backward, each pair in one."""
    layers = 7
    (one, other) = compiled(digits, workers=2, batch_norm="global")
    assert one == other
    assert len(one["all_reduce_groups"]) == 1 + 2 * layers
