"""What the host script is told: the part of a job that every machine needs."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping

from common.errors import UserError

VARIABLE = "LAUNCH_JOB"
# By which an engine may say who is who: names of all hosts, and the number of this one.
HOSTS, INDEX = "LAUNCH_HOSTS", "JOB_COMPLETION_INDEX"
# Of a submission: the board of an older one is not obeyed.
_SUBMISSION = re.compile(r"[a-z0-9][-a-z0-9]{0,62}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostJob:
    """What runs on the hosts of a job, whatever engine has made them.

    Attributes:
      name: of the job.
      submission: differs between two submissions of it.
      machines: "tpu" (one client on host 0, a worker on each) or "gpu" (a client each).
      generation: of TPUs, as "v5e"; "" of GPUs.
      hosts: how many there are.
      gin_files: of `train.main`, in order.
      gin_params: likewise.
      data_dir: replaces the recipe's.
      model_dir: of the run; the hosts' board lies beside it.
      budget_hours: since the first start.
      restarts_without_progress: in a row, after which the job ends.
      grace_seconds: from the engine's SIGTERM to its SIGKILL.
    """

    name: str
    submission: str
    machines: str
    generation: str
    hosts: int
    gin_files: tuple[str, ...]
    gin_params: tuple[str, ...]
    data_dir: str
    model_dir: str
    budget_hours: float
    restarts_without_progress: int
    grace_seconds: float

    def to_environment(self) -> dict[str, str]:
        """Return it as a variable of the environment, which holds no secret."""
        return {VARIABLE: json.dumps(dataclasses.asdict(self), sort_keys=True)}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "HostJob":
        """Return what `to_environment` has written.

        Raises:
          UserError: it is not there, or something else.
        """
        text = environment.get(VARIABLE)
        if text is None:
            raise UserError(
                f"{VARIABLE} is not in the environment: python -m launch.job render "
                "and submit put it there"
            )
        try:
            said = json.loads(text)
            lists = {key: tuple(said[key]) for key in ("gin_files", "gin_params")}
            job = cls(**{**said, **lists})
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(
                f"{VARIABLE} is not what launch.job writes ({error}); render and "
                "submit the job anew, with the code that its hosts run"
            ) from error
        if not _SUBMISSION.fullmatch(job.submission):
            raise UserError(f"{VARIABLE}: {job.submission!r:.80} is no submission")
        return job

    def train_arguments(self) -> list[str]:
        """Return the flags of `train.main`."""
        data = f"experiment.Experiment.data_dir = {self.data_dir!r}"
        return [
            *(f"--gin_file={path}" for path in self.gin_files),
            *(f"--gin_param={text}" for text in (*self.gin_params, data)),
            f"--model_dir={self.model_dir}",
        ]
