"""Compiles a run's steps for a TPU slice, without one: do they compile, do they fit?

python -m preflight --gin_file=gin_configs/models/efficientnet_x_b0.gin \
  --gin_file=gin_configs/runs/imagenet_tpu.gin --topology=v3:4x4 \
  --gin_param="experiment.Experiment.data_dir = 'gs://bucket/imagenet'"

The compiler is that of TPUs; `make tpu-compiler` installs it. A step takes it minutes,
and the second time only as long as TensorFlow traces it. The exit status is 0 when
everything compiles and fits, 1 when something does not or a setting is wrong.
"""

import json
import sys

from absl import app, flags, logging

from common import errors
from preflight import text
from preflight.report import data_of, preflight
from tpu_compiler import Compiler, Topology
from train import config

FLAGS = flags.FLAGS
flags.DEFINE_multi_string("gin_file", [], "A .gin file; later ones win.")
flags.DEFINE_multi_string("gin_param", [], "A binding such as 'a.b = 1'; it wins.")
flags.DEFINE_string("topology", None, "The slice, as v3:4x4, v4:2x2x1 or v5e:4x4.")
flags.DEFINE_boolean("json", False, "Print one JSON object instead of text.")
flags.DEFINE_boolean("search", True, "Look for the largest batch that fits.")
flags.DEFINE_integer(
    "train_images",
    None,
    "Images of the training split, where the data is out of reach.",
    lower_bound=1,
)
flags.DEFINE_float(
    "input_cpu_ms",
    None,
    "What an image costs a core of a host, by benchmarks.input there; by default it is "
    "measured here, where the data can be read.",
    lower_bound=1e-6,
)
flags.DEFINE_integer("workers", 2, "Compilations at the same time.", lower_bound=1)
flags.DEFINE_float("timeout_minutes", 60.0, "Of each compilation.", lower_bound=0.1)
flags.mark_flag_as_required("topology")


def main(argv: list[str]) -> None:
    """The command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; settings are flags")
    logging.set_verbosity(logging.WARNING)
    with errors.reported(), Compiler(FLAGS.workers) as compiler:
        topology = Topology.parse(FLAGS.topology)
        experiment = config.parse(FLAGS.gin_file, FLAGS.gin_param)
        experiment, info = data_of(experiment, FLAGS.train_images)
        report = preflight(
            experiment,
            info,
            topology,
            compiler,
            search=FLAGS.search,
            reads_data=FLAGS.train_images is None,
            cpu_ms=FLAGS.input_cpu_ms,
            timeout_seconds=60 * FLAGS.timeout_minutes,
        )
    print(json.dumps(report) if FLAGS.json else text.describe(report))
    sys.exit(0 if report["compiles"] and report["fits"] else 1)


if __name__ == "__main__":
    app.run(main)
