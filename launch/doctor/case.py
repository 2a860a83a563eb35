"""A job as the checks see it: what one has found out, the next need not ask again."""

import dataclasses
import functools
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.errors import UserError, first_line
from launch.doctor import identity
from launch.doctor.findings import NotAnswered
from launch.doctor.google import Google
from launch.engines import skypilot
from launch.engines.engine import NAMES
from launch.job import job_file
from launch.job.job_file import Job
from launch.job.machines import TpuSlice

if TYPE_CHECKING:
    from train.config import ResolvedConfig


@dataclasses.dataclass
class Case:
    """A job that is to be submitted.

    Attributes:
      path: of the job file.
      asks: whether to ask Google, and others; not so offline.
      engine: that is to run the job.
      compiles: whether to take the minutes of preflight.
      node: a TPU VM that runs, "" for none.
      preflight: what preflight has said, once it has.
    """

    path: str
    asks: bool = True
    engine: str = NAMES[0]
    compiles: bool = True
    node: str = ""
    preflight: Mapping[str, Any] | None = None

    @functools.cached_property
    def read(self) -> Job | UserError:
        """The job, or why it is none."""
        try:
            return job_file.load(self.path)
        except UserError as error:
            return error

    @property
    def job(self) -> Job:
        """The job; NotAnswered where the file is not sound."""
        if isinstance(self.read, UserError):
            raise NotAnswered("the job file is not sound yet")
        return self.read

    @functools.cached_property
    def google(self) -> Google:
        """Google's services; NotAnswered where nobody is to be asked."""
        self.require_network()
        who = identity.find(self.job.project)
        return Google(who, identity.session(who))

    def require_network(self) -> None:
        """Raise NotAnswered where nobody is to be asked."""
        if not self.asks:
            raise NotAnswered("offline")

    @property
    def slice(self) -> TpuSlice | None:
        """What the job runs on, None where that are GPUs."""
        on = self.job.machines
        return on if isinstance(on, TpuSlice) else None

    @property
    def account(self) -> str:
        """The service account of the machines: SkyPilot has its own."""
        if self.engine == "skypilot":
            return skypilot.account(self.job)
        return self.job.service_account

    @functools.cached_property
    def train_flags(self) -> list[str]:
        """--gin_file and --gin_param as each host passes them."""
        flags = self.job.host_job("doctor").train_arguments()
        return [flag for flag in flags if flag.startswith("--gin_")]

    @functools.cached_property
    def config(self) -> "ResolvedConfig":
        """What train.main will make of these flags; UserError where it refuses them."""
        # It imports TensorFlow.
        from train import config

        def values(flag: str) -> list[str]:
            start = f"--{flag}="
            every = self.train_flags
            return [one.removeprefix(start) for one in every if one.startswith(start)]

        return config.resolve(values("gin_file"), values("gin_param"))

    def sound_config(self) -> "ResolvedConfig":
        """Return the config; NotAnswered where train.main refuses it."""
        try:
            return self.config
        except UserError as error:
            raise NotAnswered(f"the config is refused: {first_line(error)}") from error


def command(*words: str) -> str:
    """Return a command as a person may paste it."""
    return shlex.join(words)


def output(words: Sequence[str], *, seconds: float, **options: Any) -> str:
    """Return what a command of this machine prints.

    Args:
      words: of the command.
      seconds: after which it is given up.
      **options: of subprocess.run.

    Raises:
      NotAnswered: it is not there, takes too long or fails; its last line says why.
    """
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            **options,
        )
    except FileNotFoundError as error:
        raise NotAnswered(f"{words[0]} is not installed") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAnswered(f"{words[0]}: {first_line(error)}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise NotAnswered(f"{words[0]} fails: {said[-1] if said else done.returncode}")
    return done.stdout.strip()
