"""What a person sees who waits: what is compiled, for how long, how long such took."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable

from common.console import is_terminal, say, take_back_live_line
from tpu_compiler import CompilerReport
from tpu_compiler.history import History

Answer = concurrent.futures.Future[CompilerReport]
_TICK_SECONDS = 1.0


@dataclasses.dataclass
class _Compilation:
    name: str
    usual: float | None  # seconds
    answer: Answer
    began: float | None = None  # None: no process has been free for it


class Progress:
    """A line on standard error; where that is no terminal, one as each step begins."""

    def __init__(self, history: History, clock: Callable[[], float] = time.monotonic):
        """Show nothing yet.

        Args:
          history: of compilations on this machine.
          clock: in seconds.
        """
        self._history, self._clock = history, clock
        self._compilations: list[_Compilation] = []

    def lowering(self, name: str) -> None:
        """Say that TensorFlow traces a step, which takes seconds."""
        what = f"lowering {name}"
        say("; ".join(filter(None, [what, self._line()])), stays=False)

    def compiling(self, name: str, kind: str, where: str, answer: Answer) -> None:
        """Show a compilation until its answer is there.

        Args:
          name: of what is compiled.
          kind: of which the history may know something.
          where: for what it is compiled.
          answer: of the compiler.
        """
        if answer.done():  # it was known
            return
        usual = self._history.seconds(kind)
        self._compilations.append(_Compilation(name, usual, answer))
        if is_terminal():
            self._show()
            return
        took = "minutes, mostly" if usual is None else f"{_clock(usual)} the last time"
        say(f"compiling {name} for {where}: {took}")

    def wait(self, answer: Answer) -> CompilerReport:
        """Return an answer, and leave the line empty for what is printed of it.

        Raises:
          CompilerError: as the answer does.
        """
        try:
            while not concurrent.futures.wait(
                [answer], timeout=_TICK_SECONDS if is_terminal() else None
            ).done:
                self._show()
        finally:
            take_back_live_line()
        return answer.result()

    def _show(self) -> None:
        if line := self._line():
            say(line, stays=False)

    def _line(self) -> str:
        """Return what is compiled now, and since when."""
        now, parts = self._clock(), []
        for one in self._compilations:
            if one.answer.done() or not one.answer.running():
                continue
            one.began = now if one.began is None else one.began
            about = "" if one.usual is None else f" of about {_clock(one.usual)}"
            parts.append(f"{one.name} {_clock(now - one.began)}{about}")
        return f"compiling {', '.join(parts)}" if parts and is_terminal() else ""


def _clock(seconds: float) -> str:
    """Return "2:05" for 125 seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
