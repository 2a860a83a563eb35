"""A profile of chosen steps, for TensorBoard's profile tab."""

from collections.abc import Sequence

import tensorflow as tf

from common.console import say, warn
from common.errors import UserError, first_line

_TPU_PROFILER_PORT = 8466  # of Cloud TPU's workers, recalled; not tried here


class Profiler:
    """Profiles a run from one step to another, once in a process.

    A run that resumes between the two profiles what is left of them; one that resumes
    beyond them, nothing. A profile that fails does not stop the run.

    Of several processes one profiles. The others cut their loops where it does, or they
    would wait for each other in different steps.
    """

    def __init__(
        self,
        directory: str,
        steps: tuple[int, int] | None,
        *,
        writes: bool = True,
        workers: Sequence[str] = (),
    ):
        """Start nothing yet.

        Args:
          directory: of a run of TensorBoard's; the profile is in its plugins/profile.
          steps: number of updates at the start and at the end, as in (100, 110), which
            profiles ten; None is no profile.
          writes: whether this process is the one that profiles.
          workers: "host:port" of each worker of a slice, if this process drives one.

        Raises:
          UserError: the second is not larger than the first.
        """
        if steps is not None and not 0 <= steps[0] < steps[1]:
            raise UserError(
                f"cannot profile the steps {steps}: name the first and a later last one"
            )
        self._directory = directory
        self._edges = steps or ()
        self._steps = steps if writes else None  # None once there is nothing to do
        self._began: int | None = None
        if self._steps and workers:
            self._steps = None
            warn(_of_others(workers, directory))

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_) -> None:
        if self._began is not None:
            self._stop("the end of the run")

    def bound(self, step: int, stop: int) -> int:
        """Return where a loop from `step` to `stop` ends: no later than an edge.

        It is the same in every process, whatever has become of the profile.
        """
        between = [edge for edge in self._edges if step < edge < stop]
        return min(between, default=stop)

    def update(self, step: int) -> None:
        """Start or stop, where the run stands between two steps at an edge."""
        if self._steps is None:
            return
        first, last = self._steps
        if self._began is None and first <= step < last:
            self._start(step)
        elif self._began is not None and not first <= step < last:
            self._stop(f"step {step:,}")

    def _start(self, step: int) -> None:
        try:
            tf.profiler.experimental.start(self._directory)
        except tf.errors.OpError as error:
            self._end_without(error)
        else:
            self._began = step

    def _stop(self, end: str) -> None:
        began, self._began = self._began, None
        try:
            tf.profiler.experimental.stop()
        except tf.errors.OpError as error:
            self._end_without(error)
        else:
            self._steps = None
            say(f"the profile from step {began:,} to {end} is in {self._directory}")

    def _end_without(self, error: tf.errors.OpError) -> None:
        self._steps = None
        warn(f"there will be no profile: {first_line(error)}")


def _of_others(workers: Sequence[str], directory: str) -> str:
    """Say how the workers of a slice are profiled, by time instead of steps."""
    hosts = [worker.rpartition(":")[0] for worker in workers]
    addresses = ",".join(f"grpc://{host}:{_TPU_PROFILER_PORT}" for host in hosts)
    return (
        "there will be no profile of profile_steps: the devices are those of the "
        "slice's workers, not of this process. While the run trains, for two seconds "
        "of theirs: "
        f'python -c "import tensorflow as tf; tf.profiler.experimental.client.trace('
        f"'{addresses}', '{directory}', 2000)\""
    )
