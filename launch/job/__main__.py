"""Get machines for a job, look at it, end it.

    python -m launch.job render --to=skypilot --job=launch/jobs/v5e_32.yaml
    python -m launch.job submit --to=jobset --job=job.yaml --dry_run
    python -m launch.job logs --to=jobset --job=job.yaml

One job file says what is to run, on which machines, for how much; see docs/launch.md.
Engines: SkyPilot (TPU VMs, GPU VMs; make launch installs it), JobSet in GKE (by
kubectl), and gcloud, for which everything is a script that is printed and not run. Exit
status: 0 done, 2 a mistake, or a command of the engine has failed.
"""

import argparse
import sys

from common import cli
from launch.engines.engine import NAMES

_VERBS = {
    "render": "print what the engine is given, checked by its own rules; ask nobody",
    "submit": "ask for machines, and start the job on them",
    "status": "show what has become of it",
    "logs": "follow what host 0 prints",
    "down": "end it, and all that costs something",
}


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("launch.job", __doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in _VERBS.items():
        below = verbs.add_parser(verb, help=text, description=text, allow_abbrev=False)
        below.add_argument(
            "--job", required=True, type=cli.path, metavar="FILE", help="the job file"
        )
        below.add_argument("--to", required=True, choices=NAMES, help="the engine")
        if verb != "render":
            below.add_argument(
                "--dry_run",
                action="store_true",
                help="print every file and command as a script, and ask nobody",
            )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Do what the verb says."""
    from launch.engines import verbs
    from launch.engines.engine import of
    from launch.job import job_file

    job, engine = job_file.load(arguments.job), of(arguments.to)
    if arguments.verb == "render":
        verbs.render(engine, job)
        return
    verbs.do(arguments.verb, engine, job, dry_run=arguments.dry_run)


if __name__ == "__main__":
    sys.exit(main())
