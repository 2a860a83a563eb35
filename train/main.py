"""Trains, scores or exports what gin files describe: the entry file.

python -m train.main --gin_file=gin_configs/runs/mnist_cpu.gin --model_dir=runs/mnist
"""

import json

from absl import app, flags, logging

from common import errors, gfiles
from train import config, run
from train.export import export

MODES = ("train", "eval", "train_and_eval", "continuous_eval", "export")

FLAGS = flags.FLAGS
flags.DEFINE_multi_string("gin_file", [], "A .gin file; later ones win.")
flags.DEFINE_multi_string("gin_param", [], "A binding such as 'a.b = 1'; it wins.")
flags.DEFINE_string("model_dir", None, "Folder of this run; local or gs://.")
flags.DEFINE_enum("mode", "train_and_eval", MODES, "What to do.")
flags.DEFINE_boolean(
    "accept_config_changes", False, "Go on with a run under other settings."
)
flags.DEFINE_float(
    "eval_timeout_minutes",
    120.0,
    "continuous_eval gives up after so long without a new checkpoint.",
    lower_bound=0.0,
)
flags.mark_flag_as_required("model_dir")


def dispatch() -> None:
    """Does what the flags say."""
    model_dir = FLAGS.model_dir.rstrip("/")
    if not model_dir:
        raise errors.UserError("--model_dir is empty or /; name a folder for this run")
    if FLAGS.mode in ("train", "train_and_eval"):
        report = train(model_dir)
    else:
        # On what training has left; its config stands in where no file is named.
        experiment = config.parse(FLAGS.gin_file, FLAGS.gin_param, model_dir=model_dir)
        if FLAGS.mode == "eval":
            report = run.evaluate(experiment, model_dir)
        elif FLAGS.mode == "continuous_eval":
            report = run.continuous_evaluate(
                experiment, model_dir, timeout_minutes=FLAGS.eval_timeout_minutes
            )
        else:
            report = export(experiment, model_dir, f"{model_dir}/export")
    print(json.dumps(gfiles.to_json(report)))


def train(model_dir: str) -> dict:
    """Trains, and returns the content of summary.json."""
    return run.train_and_evaluate(
        config.parse(FLAGS.gin_file, FLAGS.gin_param),
        model_dir,
        config_text=config.operative,
        before_restore=lambda: config.compare(
            model_dir, FLAGS.gin_param, accept_changes=FLAGS.accept_config_changes
        ),
        after_restore=lambda: config.save(model_dir),
        with_evaluation=FLAGS.mode == "train_and_eval",
    )


def main(argv: list[str]) -> None:
    """Runs; a mistake that the user can mend is one line and exit status 1."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; settings are flags")
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbit's notes say what ours say
    with errors.reported():
        dispatch()


if __name__ == "__main__":
    app.run(main)
