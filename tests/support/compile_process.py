"""Compiles the step of made_up.gin with XLA: python -m tests.support.compile_process.

On each of the processes that TF_CONFIG names, or alone. Prints the program's numbers.
"""

import collections
import json
import re
import sys

import tensorflow as tf

from tests.support.runs import experiment_of
from train import run, stages, state


def compiled_step(strategy_name: str, data_dir: str, changes: str) -> str:
    """Returns what XLA has made of the step on one replica, as text.

    `changes` are settings of the experiment, as JSON.
    """
    settings = {"strategy": strategy_name, **json.loads(changes)}
    experiment = experiment_of(
        data_dir,
        gin_file="tests/data/train/made_up.gin",
        **{f"experiment.Experiment.{name}": value for name, value in settings.items()},
    )
    strategy, info = run.prepare(experiment)
    with strategy.scope():
        train_state = state.create(experiment, info)
    training = stages.Stages(experiment, info, train_state, strategy)
    training.enter(0, 0)
    trainer = training.trainer
    batch = strategy.experimental_local_results(next(iter(trainer.dataset)))[0]
    step = tf.function(
        lambda batch: strategy.run(trainer.replica_step, args=(batch,)),
        jit_compile=True,
        autograph=False,
    )
    return step.experimental_get_compiler_ir(batch)(stage="optimized_hlo")


if __name__ == "__main__":
    program = compiled_step(*sys.argv[1:])
    reductions = re.findall(r"= .* all-reduce\(.*replica_groups=(\S+),", program)
    custom = re.findall(r"custom_call_target=\"(\w+)\"", program)
    print(
        json.dumps(
            {
                "instructions": program.count(" = "),
                "all_reduce_groups": reductions,
                "custom_calls": collections.Counter(custom),
                "dynamic_shapes": len(re.findall(r"<=\d+\]", program)),
            }
        )
    )
