"""The one way in which a command is parsed, run and ended.

A command is a module of this form, which imports what is slow only once its arguments
are parsed:

    def _parser() -> argparse.ArgumentParser:
        parser = cli.parser("train.export", __doc__)
        parser.add_argument("--model_dir", required=True, help="of the run")
        return parser

    @cli.command(_parser)
    def main(arguments: argparse.Namespace) -> Status | None:
        from train.exports import saved_model
        ...

    if __name__ == "__main__":
        sys.exit(main())
"""

import argparse
import ast
import contextlib
import functools
import gc
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn, Protocol

from common import (
    console,
    files,
    gcs_reads,
    home,
    lean_imports,
    outages,
    project,
    storage_errors,
)
from common.checks import nearest_names
from common.errors import Restart, Status, UserError
from common.version import NAME, VERSION

_Run = Callable[[argparse.Namespace], Status | None]


# After how many new objects Python searches the youngest for garbage, and how many such
# searches later all that are older. Imports and graphs are millions of objects that
# stay; searched as often as Python does by itself, they take a fifth of a run's start.
_SEARCHES_FOR_GARBAGE = 50_000, 10, 5


class Main(Protocol):
    """The `main` of a command."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run with these arguments, or those of the process; return the status."""
        ...


# Of a flag that a command lacks: from its name, without dashes, its value if it has one
# and the command's flags to what may be meant, to go on a message with.
Explain = Callable[[str, str | None, Collection[str]], str]


# Before a flag; those of typesetters come along where a page was copied.
_DASHES = "-\N{EN DASH}\N{EM DASH}"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, whatever a value holds.

    Attributes:
      explain: what it says of a flag that there is not; None is `nearest_flags`.
    """

    explain: Explain | None = None

    def error(self, message: str) -> NoReturn:
        """Print how the command is used and what is wrong, and end the process."""
        if "ignored explicit argument" in message:
            message += ": this flag takes no value"
        super().error(console.escaped(message))

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        """Parse; of all flags that there are not, say what they may have meant.

        This and not `parse_args` is what argparse calls for a subcommand, too: there
        the flags are its own.
        """
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            hints = self._hints(unknown)
            lines = [
                f"; {hint}" if len(hints) == 1 else f"; for {flag} {hint}"
                for flag, hint in hints.items()
            ]
            what = f"unrecognized arguments: {' '.join(unknown)}"
            self.error("".join((what, *lines)))
        return found, []

    def _hints(self, unknown: Sequence[str]) -> dict[str, str]:
        """Return by flag what may be meant by those that there are not."""
        found, takes_next = {}, False
        for text, after in zip(unknown, [*unknown[1:], "--"], strict=True):
            flag, equals, value = text.partition("=")
            is_value, takes_next = takes_next, False
            if flag[:1] in _DASHES and flag.strip(_DASHES):
                takes_next = not equals and not after.startswith("-")
                found[flag] = self._hint(
                    flag, value if equals else after if takes_next else None
                )
            elif equals and self.explain and not is_value:  # without --gin_param
                found[flag] = self._hint(flag, value)
            elif not is_value and "...]" in self.format_usage():
                found["the rest"] = "write them side by side, no flag between them"
        return {flag: hint for flag, hint in found.items() if hint}

    def _hint(self, flag: str, value: str | None) -> str:
        name = flag.lstrip(_DASHES).replace("-", "_")
        flags = re.findall(r"--\w+", self.format_usage())
        if f"--{name}" in flags:
            return f"write --{name}"
        return (self.explain or nearest_flags)(name, value, flags)


def parser(module: str, doc: str | None, **options: Any) -> _Parser:
    """Make the parser of a command.

    Args:
      module: what stands behind "python -m".
      doc: the module's docstring, which --help shows as it is.
      **options: of ArgumentParser.
    """
    made = _Parser(
        prog=f"python -m {module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a flag that comes later must not change what one means
        **options,
    )
    made.add_argument("--version", action="version", version=f"{NAME} {VERSION}")
    return made


def nearest_flags(name: str, value: str | None, flags: Collection[str]) -> str:
    """Return the flags of a command that are like another, "" for none; an Explain."""
    del value
    near = nearest_names(f"--{name}", flags)
    return f"nearest: {', '.join(near)}" if near else ""


def _any_setting(name: str, value: str | None, flags: Collection[str]) -> str:
    whole = name if "." in name else f"MODULE.FUNCTION.{name}"
    setting = f"a setting is --gin_param={whole}={value or 'VALUE'}"
    return "; ".join(filter(None, (nearest_flags(name, value, flags), setting)))


def add_gin_arguments(parser: _Parser, *, explain: Explain = _any_setting) -> None:
    """Add --gin_file and --gin_param, as `train.config.parse` takes them.

    Args:
      parser: of the command.
      explain: says how a setting is written that was given as a flag of its own.
    """
    parser.explain = explain
    parser.add_argument(
        "--gin_file",
        type=_gin_file,
        action="append",
        default=[],
        help="a .gin file; may be repeated, later ones win",
    )
    add_gin_param(parser)


def add_gin_param(parser: argparse.ArgumentParser) -> None:
    """Add --gin_param alone, for a command that takes the config of a run."""
    parser.add_argument(
        "--gin_param",
        action="append",
        default=[],
        help="a binding such as 'a.b = 1', which wins over files; may be repeated",
    )


def _gin_file(text: str) -> str:
    text = path(text)
    if why := project.why_no_gin_file(text):
        raise argparse.ArgumentTypeError(why)
    return text


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add --workers: how many processes share the work, by default one a core."""
    cores = len(os.sched_getaffinity(0))  # that this process may use

    def workers(text: str) -> int:
        count = positive(text)
        if count > cores:
            console.warn(
                f"--workers={count} on {console.count(cores, 'core')}: more processes "
                "take more memory, and no less time"
            )
        return count

    parser.add_argument(
        "--workers",
        type=workers,
        default=cores,
        metavar="W",
        help="processes (all %(default)s cores)",
    )


def command(
    make_parser: Callable[[], argparse.ArgumentParser],
    *,
    interrupted: str = "stopped",
    outlives_pipes: bool = False,
) -> Callable[[_Run], Main]:
    """Make a function of parsed arguments the `main` of a command.

    Args:
      make_parser: of the arguments. What it needs has to be fast to import.
      interrupted: what a person reads after Ctrl-C.
      outlives_pipes: whether the work matters more than what is printed: a closed
        pipe ends any other command, in silence, as it ends those of the system.

    Returns:
      A decorator; what it makes takes the arguments, those of the process by default,
      and returns the exit status.
    """

    def decorate(run: _Run) -> Main:
        @functools.wraps(run)
        def main(argv: Sequence[str] | None = None) -> int:
            # Only this project's own lines shall reach a person. TensorFlow looks at
            # it when it is imported.
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            gcs_reads.set_environment()
            lean_imports.keep()
            gc.set_threshold(*_SEARCHES_FOR_GARBAGE)
            project.leave_rooms()
            _open_closed_streams()
            with contextlib.redirect_stdout(console.Printable(sys.stdout)):
                arguments = make_parser().parse_args(argv)
                with outages.said(_texts(arguments)):
                    return run_command(
                        lambda: run(arguments),
                        interrupted=interrupted,
                        outlives_pipes=outlives_pipes,
                    )

        return main

    return decorate


def _texts(arguments: argparse.Namespace) -> list[str]:
    """Return what flags say; paths are among it, and what a config names is not."""
    values = vars(arguments).values()
    lists = [value if isinstance(value, list) else [value] for value in values]
    return [one for several in lists for one in several if isinstance(one, str)]


def run_command(
    run: Callable[[], Status | None],
    *,
    interrupted: str = "stopped",
    outlives_pipes: bool = False,
) -> int:
    """Run a command's work; print in one line why it ends, if it does not succeed.

    Arguments are those of `command`.

    Returns:
      The exit status: what `run` returns, None being OK.
    """
    try:
        with storage_errors.translated():
            status = run()
        sys.stdout.flush()  # a pipe that is closed, or a full disk, tells now
        return int(status or Status.OK)
    except console.Unprintable as error:
        _forget_stdout()
        if not outlives_pipes:
            return _mistake(_text(error))
        console.warn(_text(error))
        return int(Status.OK)
    except UserError as error:
        return _mistake(_text(error))
    except Restart as reason:
        console.end_live_line()
        console.say(console.escaped(f"{_text(reason)}; the same command goes on"))
        return int(Status.RESTART)
    except KeyboardInterrupt:
        console.say(interrupted)
        return int(Status.INTERRUPTED)
    except BrokenPipeError:
        if not outlives_pipes:
            _die_of_a_closed_pipe()
        _forget_stdout()
        return int(Status.OK)
    except Exception as error:
        if isinstance(error, OSError) and error.strerror is not None:
            where = f"{error.filename}: " if error.filename else ""
            return _mistake(f"{where}{error.strerror}")
        # A mistake of ours. Python would end with 1, which is an answer here: no.
        console.end_live_line()
        traceback.print_exc()
        return int(Status.MISTAKE)


def _open_closed_streams() -> None:
    """Put nothing in place of standard streams that are closed, as by `>&-`.

    Else the next file that is opened would be one, and take what others write there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def leave(status: int) -> NoReturn:
    """End the process at once, without the interpreter's own clearing up.

    For a command that has used TensorFlow's iterators for long: to delete one waits for
    the thread that tunes it, which looks up once a minute only. What a command writes
    has to be closed by then.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # of a pipe that is closed
            stream.flush()
    os._exit(status)


def _mistake(line: str) -> int:
    console.end_live_line()
    console.say(f"error: {console.escaped(line)}")
    return int(Status.MISTAKE)


def _text(error: BaseException) -> str:
    # All of it: where there is a second line, a name has brought it.
    return str(error).strip() or type(error).__name__


def _die_of_a_closed_pipe() -> None:
    """End as a program ends that knows nothing of pipes: `... | head`."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)


def _forget_stdout() -> None:
    """Let the interpreter's own last flush find nobody who could refuse."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


_LARGEST = 2**31 - 1  # what a size in a compiler's shapes is sure to hold

_LARGEST_FIELD = 2**16  # of a block or a stage: more than that is a slip
# What Python's parser of literals raises, and what is no dictionary of dictionaries.
_NO_CHANGES = (
    ValueError,
    SyntaxError,
    TypeError,
    MemoryError,
    RecursionError,
    AttributeError,
)


def positive(text: str) -> int:
    """Return a whole number of 1 to 2**31 - 1.

    Raises:
      ArgumentTypeError: the text is none.
    """
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    if number > _LARGEST:
        raise argparse.ArgumentTypeError(f"{text} is more than {_LARGEST:,}")
    return number


def path(text: str) -> str:
    """Return a path, of a file or folder to be written or read.

    Raises:
      ArgumentTypeError: as `local_path`; or it is not UTF-8, which TensorFlow cannot
        open.
    """
    text = local_path(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(text).decode("utf-8", "backslashreplace")
        raise argparse.ArgumentTypeError(
            f"{shown} is not UTF-8, as paths have to be: rename it, or name another"
        ) from None
    return text


def local_path(text: str) -> str:
    """Return a path that is opened without TensorFlow, whose name may be any bytes.

    A leading ~ that no shell has replaced, as behind =, is the home folder.

    Raises:
      ArgumentTypeError: the text is empty; or it begins with a ~, and no home folder is
        known: it would be a folder of this name.
    """
    text = home.expand(text.removeprefix("file://"))
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: name a file or folder")
    if text.partition("/")[0] == "~":
        raise argparse.ArgumentTypeError(
            f"{text} would be a folder named ~, for HOME names no home folder: set "
            f"it, or write ./{text} if you mean it"
        )
    if text.lower().startswith("gs:") and not re.match("gs://[^/]", text):
        # "gs:" would be a folder on this machine, as where a variable is empty.
        raise argparse.ArgumentTypeError(
            f"{text} names no bucket: write gs://BUCKET/FOLDER, or ./{text} if you "
            "mean a folder of this name"
        )
    return text


def weights_path(text: str) -> str:
    """Return the path of a folder in which TensorFlow writes and reads weights.

    Raises:
      ArgumentTypeError: as `path`; or TensorFlow takes it for a pattern.
    """
    text = path(text)
    if why := files.why_a_pattern(text):
        raise argparse.ArgumentTypeError(f"{text}: {why}")
    return text


def names(text: str) -> list[str]:
    """Return the names between commas, each once, in their order.

    Raises:
      ArgumentTypeError: there is none.
    """
    found = [name for name in map(str.strip, text.split(",")) if name]
    if not found:
        raise argparse.ArgumentTypeError("no name given")
    return list(dict.fromkeys(found))


def changes(text: str) -> dict[Any, dict[Any, Any]]:
    """Return the fields to change by stage or block, as `models.change` takes them.

    Args:
      text: of a dictionary of dictionaries: "{3: {'kernel_size': 3}}". Numbers and
        names of fields are for `models.change` to check.

    Raises:
      ArgumentTypeError: it is none, or a value can be none of a field's.
    """
    try:
        found = ast.literal_eval(text)
        values = [value for fields in found.values() for value in fields.values()]
    except _NO_CHANGES:
        raise argparse.ArgumentTypeError(
            f"{text} is not of the form {{3: {{'kernel_size': 3}}}}"
        ) from None
    for value in values:
        number = isinstance(value, int | float)
        if not (abs(value) <= _LARGEST_FIELD if number else isinstance(value, str)):
            raise argparse.ArgumentTypeError(
                f"{value!r} is no name, True, False or number up to {_LARGEST_FIELD:,}"
            )
    return found


def number(
    kind: type = float,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
) -> Callable[[str], Any]:
    """Make a type of arguments: a finite number, of which it says what it has to be.

    Args:
      kind: int or float.
      above: what it has to be larger than.
      least: the smallest that there may be.
      below: what it has to be smaller than.
    """
    what = "a whole number" if kind is int else "a number"
    if above > -math.inf:
        what += f" above {above:g}"
    if least > -math.inf:
        what += f", {least:g} or more"
    if below < math.inf:
        what += f" and below {below:g}"

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and above < value < below and value >= least):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return read
