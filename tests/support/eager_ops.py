"""How many operations a process runs by itself, one by one.

    python -m tests.support.eager_ops CORES DATA

prints, as a line of JSON, how many the state of the tiny network takes on as many
cores of TPUStrategy: each would be a message to a worker of a slice, but for what is
done on this process's own CPU, as RestoreV2 is.
"""

import collections
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator

# What all of TensorFlow's operations go through, and where they name the operation.
_CALLS = {"TFE_Py_FastPathExecute": 1, "TFE_Py_Execute": 2}


@contextlib.contextmanager
def counted() -> Iterator[collections.Counter]:
    """Count the operations of this context, by name."""
    from tensorflow.python import pywrap_tfe

    counts: collections.Counter = collections.Counter()

    def counting(function, place):
        def call(*args, **keywords):
            result = function(*args, **keywords)  # or the other of the two is tried
            name = args[place]
            counts[name.decode() if isinstance(name, bytes) else name] += 1
            return result

        return call

    originals = {name: getattr(pywrap_tfe, name) for name in _CALLS}
    for name, place in _CALLS.items():
        setattr(pywrap_tfe, name, counting(originals[name], place))
    try:
        yield counts
    finally:
        for name, function in originals.items():
            setattr(pywrap_tfe, name, function)


def main() -> None:
    """Create the state, save and restore it."""
    cores, data = int(sys.argv[1]), sys.argv[2]
    from launch.rehearsal import cores as shim

    shim.install(cores)
    import numpy as np

    from input_pipeline.dataset_info import load_info
    from tests.support.runs import experiment_of
    from train import state
    from train.checkpoints.manager import Checkpoints
    from train.distribution import strategies

    experiment = experiment_of(data, **{"experiment.Experiment.strategy": "tpu"})
    strategy = strategies.make_strategy("tpu")
    counts = {}
    with strategy.scope():
        with counted() as ops:
            train_state = state.create(experiment, load_info(data))
        counts["create"] = dict(ops)
        variables = train_state.variables()
        first = {name: v.numpy() for name, v in variables.items()}
        with (
            tempfile.TemporaryDirectory() as folder,
            Checkpoints(variables, folder, keep=1) as checkpoints,
        ):
            checkpoints.save(wait=True)
            for name, variable in variables.items():
                variable.assign(np.ones(first[name].shape))
            with counted() as ops:
                checkpoints.restore_newest()
    counts["restore"] = dict(ops)
    counts["variables"] = len(variables)
    counts["wrong copies"] = [
        name
        for name, variable in variables.items()
        for copy in variable.values
        if copy.numpy().tobytes() != first[name].tobytes()
    ]
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
