r"""Run a config as on a slice of TPUs, on this machine's CPUs: what would a pod refuse?

    python -m launch.rehearsal --gin_file=gin_configs/models/efficientnet_x_b0.gin \
      --gin_file=gin_configs/runs/imagenet_tpu.gin --hosts=4 --cores=2 \
      --gin_param="experiment.Experiment.data_dir = 'gs://bucket/imagenet'"

TensorFlow's own TPUStrategy drives a process for each host, with CPUs for cores. The
trainer runs a few steps of each stage on small batches, and an evaluation. Exit status:
0 nothing was found, 1 such a slice would refuse something, 2 a mistake.
"""

import argparse
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator

from common import cli
from common.errors import Restart, Status, UserError
from launch.rehearsal import workers
from launch.rehearsal.workers import SliceShape
from train.settings import flags

_MOST_HOSTS, _MOST_CORES = 64, 8


def _up_to(most: int, why: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        if (number := cli.positive(text)) > most:
            raise argparse.ArgumentTypeError(f"{number:,} is more than {most}: {why}")
        return number

    return read


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("launch.rehearsal", __doc__)
    cli.add_gin_arguments(parser, explain=flags.explain)
    parser.add_argument(
        "--hosts",
        type=_up_to(_MOST_HOSTS, "a process each; fewer show the same"),
        default=1,
        help="of the slice (%(default)s)",
    )
    parser.add_argument(
        "--cores",
        type=_up_to(_MOST_CORES, "no host of a TPU has more"),
        required=True,
        help="of each host, a replica each: 8 on v2 and v3, 4 on v4; fewer will do",
    )
    parser.add_argument(
        "--steps",
        type=cli.positive,
        default=4,
        help="of each stage of the training (%(default)s)",
    )
    parser.add_argument(
        "--images_per_core",
        type=cli.positive,
        default=2,
        help="at a time, at most, whatever the config says (%(default)s)",
    )
    parser.add_argument(
        "--data_dir",
        type=cli.path,
        help="data to read in place of the config's, which is out of reach here",
    )
    parser.add_argument(
        "--shared_path",
        type=cli.path,
        action="append",
        default=[],
        help="a local folder that every host of the slice has; may be repeated",
    )
    parser.add_argument(
        "--model_dir",
        type=cli.weights_path,
        help="folder of the rehearsal's run, local or gs://, which stays; not that of "
        "the run that is meant (by default one that is removed)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of text"
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Print the report; the status says whether a slice would refuse something."""
    on = SliceShape(arguments.hosts, arguments.cores)
    # SIGTERM, too, leaves the contexts, but where the trainer has a way of its own.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _workers(on), _folder(arguments.model_dir) as model_dir:
        # TensorFlow looks at the environment when it is imported.
        from launch.rehearsal import cores, report
        from launch.rehearsal.rehearse import rehearse

        cores.install(on.cores)
        found = rehearse(
            arguments.gin_file,
            arguments.gin_param,
            on,
            model_dir,
            steps=arguments.steps,
            images_per_core=arguments.images_per_core,
            data_dir=arguments.data_dir,
            shared_paths=arguments.shared_path,
        )
    if arguments.json:
        print(json.dumps(report.to_json(found)))
    else:
        print(report.describe(found))
    return Status.NO if found.refused else Status.OK


@contextlib.contextmanager
def _workers(on: SliceShape) -> Iterator[None]:
    """Start the hosts of a slice and name them; one host is this process itself."""
    if on.hosts == 1:
        os.environ["TPU_NAME"] = "local"
        yield
        return
    with workers.started(on.hosts, on.cores) as slice_:
        os.environ.update(workers.without_proxy(os.environ))
        os.environ["TPU_NAME"] = slice_.tpu_name
        try:
            yield
        except Restart as error:
            if gone := slice_.ended():
                raise UserError(f"{gone}; the machine may lack memory") from error
            raise


@contextlib.contextmanager
def _folder(model_dir: str | None) -> Iterator[str]:
    if model_dir is not None:
        yield model_dir.rstrip("/")
        return
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        yield f"{folder}/run"


if __name__ == "__main__":
    cli.leave(main())
