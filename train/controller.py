"""Takes the state from step to step, and looks after it between the loops."""

import dataclasses
import time
from collections.abc import Callable

from common.console import say
from common.errors import Restart, UserError
from input_pipeline.records import DatasetInfo
from train.checkpoints.manager import Checkpoints
from train.distribution import processes
from train.experiment import Experiment
from train.fault_tolerance import non_finite
from train.fault_tolerance.graph_errors import readable_errors
from train.fault_tolerance.non_finite import NonFinite
from train.fault_tolerance.preemption import Preemption
from train.fault_tolerance.watchdog import Watchdog
from train.stages import Stages
from train.state import TrainState
from train.telemetry.profiler import Profiler
from train.telemetry.progress import Progress
from train.telemetry.telemetry import LoopOutput, Telemetry

# A loop on the device cannot be interrupted. It is cut so that SIGTERM waits for no
# more than this part of its deadline; the rest is for the checkpoint.
_DEADLINE_SHARE = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class Company:
    """What goes along with a training.

    Attributes:
      workers: the processes of the run.
      checkpoints: where the state is saved.
      telemetry: gets the numbers.
      progress: says them.
      watchdog: has to hear what the run does.
      preemption: knows of SIGTERM.
      profiler: looks at chosen steps.
    """

    workers: processes.Workers
    checkpoints: Checkpoints
    telemetry: Telemetry
    progress: Progress
    watchdog: Watchdog
    preemption: Preemption
    profiler: Profiler


class Training:
    """The training of a run, from wherever its state is."""

    def __init__(
        self,
        experiment: Experiment,
        info: DatasetInfo,
        stages: Stages,
        model_dir: str,
        company: Company,
    ):
        """Args: the run, its stages, where it lives, and who goes along."""
        self._experiment = experiment
        self._info = info
        self._stages = stages
        self._state: TrainState = stages.state
        self._strategy = stages.strategy
        self._model_dir = model_dir
        self._company = company
        self._seconds_per_step: float | None = None
        self._save_seconds = 0.0  # for which the next loop had to wait

    @property
    def step(self) -> int:
        """Updates so far."""
        return int(self._state.step.numpy())

    def to(self, stop: int) -> None:
        """Trains to step `stop`, and saves there and at the end of each stage.

        Raises:
          Restart: SIGTERM has come, and a checkpoint is written; or another process
            of the run is gone.
          UserError: a loss is not finite, and the recipe says to stop; or a checkpoint
            cannot be written.
          DataError: a record cannot be read.
        """
        company = self._company
        company.progress.resume()
        while (step := self.step) < stop:
            end = self._end_of_loop(step, stop)
            if self._stages.enter(step, self._state.next_batch):
                self._begin_stage(step)
            try:
                self._loop(step, end)
            except NonFinite as fault:
                self._handle(fault)
                continue
            company.checkpoints.check()
            if self.is_regular(self.step):
                self._save()
            if self.step < end:  # SIGTERM
                self._leave(self.step)

    def is_regular(self, step: int) -> bool:
        """Whether a run that nobody disturbs saves a checkpoint at a step."""
        experiment = self._experiment
        every, loop = experiment.checkpoint_every_steps, experiment.steps_per_loop
        passes = step % loop == 0 and step // every > (step - loop) // every
        ends = step % experiment.eval_interval(self._info) == 0
        return passes or ends or step == self._stages.end(step - 1)

    def _save(self) -> None:
        began = time.perf_counter()
        self._company.watchdog.phase("taking a checkpoint", self.step)
        # Before it: what a kill takes of the numbers behind it comes again.
        self._company.telemetry.flush()
        self._company.checkpoints.save()
        self._save_seconds = time.perf_counter() - began

    def _end_of_loop(self, step: int, stop: int) -> int:
        """Returns where the loop from `step` on ends."""
        every = self._experiment.steps_per_loop
        # At multiples, wherever a process began: its numbers are those of any other.
        end = min((step // every + 1) * every, self._stages.end(step), stop)
        return self._company.profiler.bound(step, end)

    def _begin_stage(self, step: int) -> None:
        """Says what comes now, and shows how it looks."""
        company, stages = self._company, self._stages
        self._seconds_per_step = None
        if len(stages) > 1:
            company.progress.begin_stage(stages.describe(step))
        count = self._experiment.example_images
        if count and company.workers.leads:
            company.watchdog.phase("example images", step)
            with readable_errors():
                _, hosts = processes.input_hosts(self._strategy, company.workers)
                images, labels = stages.example_images(
                    self._state.next_batch, count, num_hosts=hosts
                )
            names = [self._info.label_names[label] for label in labels]
            company.telemetry.images(step, images, names)

    def _loop(self, step: int, end: int) -> None:
        """Trains to step `end`, or to where SIGTERM comes, and reports it."""
        trainer, company = self._stages.trainer, self._company
        first, steps_said = step, f"steps {step:,} to {end:,}"
        patience = 4.0 if self._seconds_per_step is None else 1.0  # compiles
        company.watchdog.phase(steps_said, step, patience=patience)
        trainer.begin_loop()
        with readable_errors():
            while step < end:
                stopped, steps = self._agree(end - step)
                if stopped:
                    break
                company.profiler.update(step)
                seconds = trainer.run(steps)
                step += steps
                self._learn_pace(seconds / steps)
                company.watchdog.phase(steps_said, step)
            company.profiler.update(step)
        if step > first:
            self._report(trainer.end_loop())

    def _agree(self, steps: int) -> tuple[bool, int]:
        """Returns whether SIGTERM has come to any process, and the steps to run."""
        workers = self._company.workers
        if self._seconds_per_step is None:
            steps = 1
        else:
            longest = self._experiment.preemption_deadline_seconds * _DEADLINE_SHARE
            steps = min(steps, max(1, int(longest / self._seconds_per_step)))
        stopped, steps = workers.totals(
            [self._company.preemption.requested, steps if workers.leads else 0]
        )
        return stopped > 0, steps

    def _learn_pace(self, seconds: float) -> None:
        """Notes the seconds of a step; the first call of a program compiles it."""
        if self._stages.trainer.calls > 1:
            self._seconds_per_step = max(seconds, 1e-6)

    def _report(self, output: LoopOutput) -> None:
        company, stages = self._company, self._stages
        numbers = company.telemetry.loop(
            output,
            macs_per_image=stages.macs,
            is_first=stages.trainer.loops == 1,
            save_seconds=self._save_seconds,
        )
        self._save_seconds = 0.0
        company.progress.update(output.step, numbers)

    def _leave(self, step: int) -> None:
        """Saves and ends the process, because of SIGTERM."""
        company = self._company
        company.watchdog.phase("saving because of SIGTERM", step)
        path = company.checkpoints.save(wait=True)
        company.telemetry.event(step, "preempted", checkpoint=path)
        raise Restart(f"stopped by SIGTERM at step {step:,}; {path} is written")

    def _handle(self, fault: NonFinite) -> None:
        """Keeps the batch's records; goes back to a checkpoint, or ends the run."""
        experiment, company, state = self._experiment, self._company, self._state
        batch = fault.step + int(state.skipped_batches.numpy())
        roll_backs = int(state.roll_backs.numpy())
        folder = f"{self._model_dir}/non_finite/step-{fault.step}-batch-{batch}"
        company.watchdog.phase("keeping the records of a batch", fault.step)
        hosts, num_hosts = processes.input_hosts(self._strategy, company.workers)
        non_finite.dump_batch(
            experiment,
            self._info,
            folder,
            batch,
            hosts=hosts,
            num_hosts=num_hosts,
            details={"step": fault.step, "fault": fault.what},
        )
        said = f"{fault} (batch {batch:,}); its records are in {folder}"
        if experiment.non_finite == "stop" or roll_backs >= experiment.max_roll_backs:
            company.telemetry.event(
                fault.step, "non_finite", batch=batch, records=folder, fault=fault.what
            )
            rolled_back = f" after {roll_backs} roll-backs" if roll_backs else ""
            raise UserError(
                f"{said}. The run ends{rolled_back} with its last checkpoint as it "
                "was. Set Experiment.non_finite = 'roll_back' to pass over such "
                "batches; or, with --accept_config_changes, lower the learning rate "
                "(peak_per_256 of its schedule), lengthen the warmup or set "
                "Experiment.clip_norm"
            )
        self._roll_back(fault, batch, roll_backs, said, folder)

    def _roll_back(
        self, fault: NonFinite, batch: int, roll_backs: int, said: str, folder: str
    ) -> None:
        state, company = self._state, self._company
        company.watchdog.phase("rolling back", fault.step)
        company.checkpoints.wait()
        with self._strategy.scope():
            # One that SIGTERM has saved would make the end depend on when it came.
            path = restore(company.checkpoints, company.workers, prefer=self.is_regular)
            # What this process knows, and an older checkpoint does not.
            state.skipped_batches.assign(batch + 1 - self.step)
            state.roll_backs.assign(roll_backs + 1)
        say(f"warning: {said}; going on from {path} behind that batch")
        company.telemetry.go_back(self.step)
        company.telemetry.event(
            fault.step,
            "rolled_back",
            to=self.step,
            checkpoint=path,
            batch=batch,
            records=folder,
            fault=fault.what,
        )
        company.progress.go_back(self.step)


def restore(
    checkpoints: Checkpoints,
    workers: processes.Workers,
    prefer: Callable[[int], bool] | None = None,
) -> str | None:
    """Fills the state of all processes from the checkpoint that the leader chooses."""
    return checkpoints.restore_newest(
        share=workers.share, leads=workers.leads, prefer=prefer
    )
