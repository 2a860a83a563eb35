"""What each of some equal steps takes. Standard library."""

import time
from collections.abc import Callable


def seconds_a_step(
    step: Callable[[], object], wait: Callable[[], object], steps: int
) -> list[float]:
    """Return the seconds of each step, behind three that trace and warm up.

    Args:
      step: begins one.
      wait: returns when it is done.
      steps: how many.
    """
    for _ in range(3):
        step()
    wait()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds
