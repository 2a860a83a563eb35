"""Build the input pipeline's C++ ops, which make images in less time.

    python -m input_pipeline.fused.build

Takes half a minute at most, and a C++ compiler: $CXX, or g++, clang++ or c++. The
library lies in the Python environment, since it is of one TensorFlow; what was built
before is kept. It is compared with TensorFlow's own ops before it is used: without a
difference, or not at all. `make setup` does this with --optional. Exit status: 0 there,
2 cannot be built here, or is not equal; with --optional that is 0, too, and one line.
"""

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from common import cli, console, files
from common.errors import Status, UserError

_COMPILERS = ("g++", "clang++", "c++")
_WITHOUT = "images are made by TensorFlow's own ops, the same ones in more time"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("input_pipeline.fused.build", __doc__)
    parser.add_argument(
        "--optional",
        action="store_true",
        help="do without them where they cannot be built: exit status 0",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> Status:
    """Build, compare, and say what there is."""
    try:
        print(_built())
    except UserError as error:
        if not arguments.optional:
            raise
        print(f"No fused input ops: {error}. {_WITHOUT.capitalize()}")
    return Status.OK


def _compiler() -> list[str]:
    """Return the compiler's command.

    Raises:
      UserError: there is none, or it is in vain here.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise UserError(
            f"they are for Linux on x86-64, this is {sys.platform} on "
            f"{platform.machine()}: others round otherwise"
        )
    given = shlex.split(os.environ.get("CXX", ""))
    for command in [given] if given else [[name] for name in _COMPILERS]:
        if shutil.which(command[0]):
            return command
    if given:
        raise UserError(f"$CXX is {given[0]!r}, and there is no such program")
    raise UserError(
        "no C++ compiler here (g++, clang++ or c++): install one, as by "
        "apt-get install g++, or name it in $CXX"
    )


def _built() -> str:
    """Build the library unless it is there; return a line that says so."""
    from input_pipeline.fused import library

    there = library.path()
    if library.find().ops is not None:
        return f"fused input ops: {there} is there"
    compiler = _compiler()
    started = time.monotonic()
    try:
        there.parent.mkdir(parents=True, exist_ok=True)
        with files.writing(there) as staging:
            _compile(compiler, staging)
            cases = _compare(staging)
    except OSError as error:
        raise UserError(f"cannot write {there}: {error.strerror}") from error
    seconds, kilobytes = time.monotonic() - started, there.stat().st_size / 1000
    return (
        f"fused input ops: built in {seconds:.0f} seconds, {kilobytes:.0f} kB; equal "
        f"to TensorFlow's own in {console.count(cases, 'case')}"
    )


def _compile(compiler: list[str], output: Path) -> None:
    import tensorflow as tf

    from input_pipeline.fused import library

    headers, libraries = tf.sysconfig.get_include(), tf.sysconfig.get_lib()
    definitions = [
        flag for flag in tf.sysconfig.get_compile_flags() if flag.startswith("-D")
    ]
    command = [
        *compiler,
        *library.FLAGS,
        *definitions,
        *(f"-isystem{headers}{folder}" for folder in ("", "/external/libjpeg_turbo")),
        *(str(source) for source in library.sources() if source.suffix == ".cc"),
        *("-o", str(output)),
        # Already in the process that loads the library: no path need be known.
        *(f"-L{libraries}", "-l:libtensorflow_cc.so.2"),
        "-l:libtensorflow_framework.so.2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        why = (lines or done.stderr.splitlines() or ["no message"])[0]
        raise UserError(f"{shlex.join(compiler)} failed: {why}")


def _compare(path: Path) -> int:
    """Return how many cases were equal.

    Raises:
      UserError: one was not, or the library does not load.
    """
    import tensorflow as tf

    from input_pipeline.fused import check

    try:
        ops = tf.load_op_library(str(path))
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"what was built does not load: {error}") from error
    outcome = check.compare(ops)
    if outcome.different:
        raise UserError(
            f"{len(outcome.different)} of {outcome.cases} cases are not as TensorFlow "
            f"{tf.__version__} has them here, the first: {outcome.different[0]}"
        )
    return outcome.cases


if __name__ == "__main__":
    sys.exit(main())
