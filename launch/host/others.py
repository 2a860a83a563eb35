"""The hosts beside the leader, as the board tells of them."""

from collections.abc import Iterator, Sequence
from typing import Any

from common.console import named
from launch.host.board import Board, host_name
from launch.host.server import ENDED, SERVES


class Others:
    """What they say of one life; what they said of others does not count."""

    def __init__(self, board: Board, count: int, *, may_end: bool):
        """Look at hosts 1 to `count` of a board.

        Args:
          board: of the leader.
          count: of these hosts.
          may_end: whether their processes come to an end of their own, which is 0.
        """
        self._board, self._numbers = board, range(1, count + 1)
        self._may_end = may_end

    def late(self, life: int) -> list[int]:
        """Return those that do not serve a life yet, or not any more."""
        ready = {
            number
            for number, said in self._words(life)
            if said["state"] == SERVES or (self._may_end and said["status"] == 0)
        }
        return [number for number in self._numbers if number not in ready]

    def wanting_end(self, life: int) -> list[int]:
        """Return those whose engine has sent them SIGTERM."""
        return [number for number, said in self._words(life) if said["wants_end"]]

    def ended(self, life: int) -> dict[int, int]:
        """Return by number how the processes have ended that have; 137 if unknown."""
        return {
            number: 137 if said["status"] is None else said["status"]
            for number, said in self._words(life)
            if said["state"] == ENDED
        }

    def silent(self, seconds: float) -> list[int]:
        """Return those that have given no sign of life for so long."""
        return [
            number
            for number in self._numbers
            if self._board.silent_seconds(host_name(number)) > seconds
        ]

    def _words(self, life: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in self._numbers:
            said = self._board.heard(host_name(number))
            if said.get("life") == life:
                yield number, said


def listed(numbers: Sequence[int], verb: str = "") -> str:
    """Return "host 3 has" or "hosts 3, 5 have"; without a verb the hosts alone."""
    several = len(numbers) > 1
    verb = {"has": "have", "does": "do"}.get(verb, verb) if several else verb
    return f"host{'s' * several} {named(map(str, numbers), 8)} {verb}".rstrip()
