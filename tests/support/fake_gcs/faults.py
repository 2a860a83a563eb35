"""What goes wrong, by rules that a test sets."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict


class Rule(TypedDict, total=False):
    """Requests that meet a fault, and which.

    The first rule that fits a request and whose dice say so decides; without one all is
    well. `done` tells how often it has.
    """

    op: str  # pattern of operations: read list stat start upload insert rewrite ...
    name: str  # pattern that is found in the object's name
    after: int  # requests that fit and are spared first
    times: int  # faults at most
    chance: float
    # A status ("503"); "drop": before anything is done; "drop_upload": when half of the
    # body has come; "truncate": half of the answer; "done_503": done, and answered 503;
    # "hang": for so many `seconds`. Of several, the dice choose.
    do: str | Sequence[str]
    seconds: float
    latency: float
    bytes_per_second: float  # of the body and of the answer
    message: str
    reason: str
    seen: int  # counted here
    done: int


@dataclass(frozen=True)
class Fault:
    """What one request meets: one of a rule's `do`, and the rest of the rule."""

    do: str = ""
    seconds: float = 3600.0
    latency: float | None = None
    bytes_per_second: float | None = None
    message: str | None = None
    reason: str = "injected"

    @property
    def status(self) -> int | None:
        """The status that is answered without anything being done."""
        return int(self.do) if self.do.isdecimal() else None


NONE = Fault()


class Faults:
    """The rules, and dice that fall alike however threads take turns.

    The n-th request of one operation on one object has the same luck in every run.
    """

    def __init__(self, seed: int) -> None:
        self.rules: list[Rule] = []
        self._seed = seed
        self._asked: dict[tuple[str, str], int] = {}

    def find(self, op: str, name: str) -> Fault:
        """Return what this request meets."""
        self._asked[op, name] = self._asked.get((op, name), 0) + 1
        dice = random.Random(f"{self._seed} {op} {name} {self._asked[op, name]}")
        for rule in self.rules:
            if not re.fullmatch(rule.get("op", ".*"), op):
                continue
            if not re.search(rule.get("name", ""), name):
                continue
            rule["seen"] = rule.get("seen", 0) + 1
            spent = rule.get("done", 0) >= rule.get("times", float("inf"))
            if spent or rule["seen"] <= rule.get("after", 0):
                continue
            if dice.random() < rule.get("chance", 1.0):
                rule["done"] = rule.get("done", 0) + 1
                return _fault(rule, dice)
        return NONE


def _fault(rule: Rule, dice: random.Random) -> Fault:
    do = rule.get("do", "")
    return Fault(
        do=str(do) if isinstance(do, str | int) else dice.choice(do),
        seconds=rule.get("seconds", 3600.0),
        latency=rule.get("latency"),
        bytes_per_second=rule.get("bytes_per_second"),
        message=rule.get("message"),
        reason=rule.get("reason", "injected"),
    )
