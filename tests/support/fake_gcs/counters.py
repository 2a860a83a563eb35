"""How many requests there were, of what, and how many bytes."""

import json
import threading
from pathlib import Path
from typing import Any, TextIO


class Counters:
    """Counts requests by operation: {"read": {"requests", "sent", "received", ...}}."""

    def __init__(self, log: str | Path | None = None) -> None:
        self._lock = threading.Lock()
        self._log: TextIO | None = open(log, "a", buffering=1) if log else None  # noqa: SIM115
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Begin at zero, but for the requests that are under way."""
        with self._lock:
            self.ops: dict[str, dict[str, Any]] = {}
            self.connections = 0
            self.most_in_flight = self.in_flight

    def connected(self) -> None:
        """Count a connection."""
        with self._lock:
            self.connections += 1

    def begin(self) -> None:
        """Count a request as under way."""
        with self._lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def count(self, op: str, status: int, sent: int, received: int) -> None:
        """Count a request before its client knows how it went.

        Args:
          op: the operation.
          status: -1 if there is no answer.
          sent: bytes of content that the answer has.
          received: bytes of the body that came.
        """
        with self._lock:
            row = self.ops.setdefault(
                op, {"requests": 0, "sent": 0, "received": 0, "status": {}}
            )
            row["requests"] += 1
            row["sent"] += sent
            row["received"] += received
            row["status"][str(status)] = row["status"].get(str(status), 0) + 1

    def end(self, **details: Any) -> None:
        """Count a request as over, and write what there is to say of it to the log."""
        with self._lock:
            self.in_flight -= 1
            if self._log:
                self._log.write(json.dumps(details) + "\n")

    def close(self) -> None:
        """Close the log."""
        with self._lock:
            if self._log:
                self._log.close()
                self._log = None
