"""Takes the state from step to step, and looks after it between the loops."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from common.console import say, warn
from common.errors import Restart, UserError
from input_pipeline.dataset_info import DatasetInfo
from train import evaluation
from train.checkpoints import bundle
from train.checkpoints.bundle import Fence
from train.checkpoints.manager import Checkpoints
from train.datasets import data_setting
from train.distribution.processes import Processes, input_hosts
from train.evaluation import Evaluator
from train.experiment import Experiment
from train.fault_tolerance import non_finite
from train.fault_tolerance.graph_errors import translate_errors
from train.fault_tolerance.non_finite import NonFinite
from train.fault_tolerance.preemption import Preemption
from train.fault_tolerance.watchdog import Watchdog
from train.metrics import LoopOutput
from train.stages import Stages
from train.telemetry.profiler import Profiler
from train.telemetry.progress import Progress
from train.telemetry.telemetry import Telemetry

# A loop on the device cannot be interrupted. It is cut so that SIGTERM waits for no
# more than this part of its deadline; the rest is for the checkpoint.
_DEADLINE_SHARE = 0.25
_COMPILING = 4.0  # how much longer than others a phase may take that compiles


class Controller:
    """The training of a run, from wherever its state is."""

    def __init__(
        self,
        experiment: Experiment,
        info: DatasetInfo,
        stages: Stages,
        model_dir: str,
        *,
        processes: Processes,
        checkpoints: Checkpoints,
        telemetry: Telemetry,
        progress: Progress,
        watchdog: Watchdog,
        preemption: Preemption,
        profiler: Profiler,
        fence: Fence,
    ):
        """Make it of a run, its stages and what serves it.

        Args:
          experiment: the recipe.
          info: of its data.
          stages: whose state is trained.
          model_dir: of the run.
          processes: the processes of the run.
          checkpoints: where the state is saved.
          telemetry: gets the numbers.
          progress: says them.
          watchdog: has to hear what the run does.
          preemption: knows of SIGTERM.
          profiler: looks at chosen steps.
          fence: see `bundle.write`.
        """
        self._experiment = experiment
        self._info = info
        self._stages = stages
        self._state = stages.state
        self._strategy = stages.strategy
        self._model_dir = model_dir
        self._processes = processes
        self._checkpoints = checkpoints
        self._telemetry = telemetry
        self._progress = progress
        self._watchdog = watchdog
        self._preemption = preemption
        self._profiler = profiler
        self._fence = fence
        self._stage_end: int | None = None  # of the stage that was begun last
        self._shown_stage: int | None = None  # likewise, whose images were shown last
        self._seconds_per_step: float | None = None
        self._save_seconds = 0.0  # for which the next loop had to wait

    @property
    def step(self) -> int:
        """Updates so far."""
        return int(self._state.step.numpy())

    def train_until(self, stop: int, evaluator: Evaluator | None = None) -> None:
        """Train to step `stop`, and save there and at the end of each stage.

        Args:
          stop: where training ends or pauses.
          evaluator: that scores later, see `_catch_up`.

        Raises:
          Restart: SIGTERM has come, and a checkpoint is written; or another process
            of the run is gone.
          UserError: a loss is not finite, and the recipe says to stop; or a checkpoint
            cannot be written.
          DataError: a record cannot be read, or the data to score cannot be opened.
        """
        self._progress.resume()
        while (step := self.step) < stop:
            batch = self._state.next_batch
            self._stages.enter(step, batch)
            if self._stages.end(step) != self._stage_end:
                self._begin_stage(step)
            try:
                end = self._end_of_loop(step, stop)
                self._loop(step, end)
            except NonFinite as fault:
                self._handle(fault)
                continue
            self._checkpoints.check()
            if self.is_regular(self.step):
                self._save()
            if self.step < end:
                self._stop_for_sigterm(self.step)
            self._catch_up(step, batch, evaluator)

    def score(self, evaluator: Evaluator) -> dict[str, Any]:
        """Score the state as it is, whose checkpoint is being written meanwhile.

        Returns:
          The scores for summary.json.
        """
        step = self.step
        self._watchdog.phase(
            f"evaluation at step {step:,}", step, timeout_factor=_COMPILING
        )
        scores = evaluator.score(f"{self._model_dir}/ckpt-{step}")
        self._watchdog.phase(f"waiting for ckpt-{step}", step)
        self._checkpoints.wait()
        say(evaluation.describe(scores))
        if self._processes.is_chief:
            # Only then they count as taken: a kill in between has them taken again.
            evaluation.keep_best(self._model_dir, scores, self._fence)
            self._telemetry.evaluation(step, scores)
        return scores

    def is_regular(self, step: int) -> bool:
        """Whether a run that nobody disturbs saves a checkpoint at a step."""
        experiment = self._experiment
        every, loop = experiment.checkpoint_every_steps, experiment.steps_per_loop
        passes = step % loop == 0 and step // every > (step - loop) // every
        ends = step % experiment.eval_interval(self._info) == 0
        return passes or ends or step == self._stages.end(step - 1)

    def _catch_up(self, step: int, batch: int, evaluator: Evaluator | None) -> None:
        """Do, behind the first loop of a stage, what its first step need not wait for.

        Example images are shown, and the evaluation's data opened: what is wrong with
        them tells now, and not when they are read.

        Args:
          step: where the loop has begun.
          batch: number of the global batch that was its first.
          evaluator: that scores later.
        """
        if evaluator is not None and not evaluator.is_open:
            self._watchdog.phase("opening the data to score", self.step)
            evaluator.open_data()
            self._progress.resume()  # that was no training
        if self._shown_stage != self._stage_end:
            self._shown_stage = self._stage_end
            self._show_examples(step, batch)
            self._progress.resume()

    def _show_examples(self, step: int, batch: int) -> None:
        """Write the first images of a batch for TensorBoard."""
        count = self._experiment.example_images
        if not count or not self._processes.is_chief:
            return
        self._watchdog.phase("example images", step)
        with translate_errors():
            _, hosts = input_hosts(self._strategy, self._processes)
            images, labels = self._stages.example_images(
                step, batch=batch, count=count, num_hosts=hosts
            )
        captions = _captions(labels, self._info.label_names)
        self._telemetry.images(step, images, captions)

    def _save(self) -> None:
        began = time.perf_counter()
        self._watchdog.phase("taking a checkpoint", self.step)
        # Before it: what a kill takes of the numbers behind it comes again.
        self._telemetry.flush()
        self._checkpoints.save()
        self._save_seconds = time.perf_counter() - began

    def _end_of_loop(self, step: int, stop: int) -> int:
        """Return where the loop from `step` on ends."""
        every = self._experiment.steps_per_loop
        # At multiples, wherever a process began: its numbers are those of any other.
        end = min((step // every + 1) * every, self._stages.end(step), stop)
        return self._profiler.bound(step, end)

    def _begin_stage(self, step: int) -> None:
        """Say what comes now."""
        self._stage_end = self._stages.end(step)
        self._seconds_per_step = None
        if len(self._stages) > 1:
            self._progress.begin_stage(self._stages.describe(step))

    def _loop(self, step: int, end: int) -> None:
        """Train to step `end`, or to where SIGTERM comes, and report it."""
        trainer = self._stages.trainer
        first, phase = step, f"steps {step:,} to {end:,}"
        factor = 1.0 if trainer.calls else _COMPILING
        self._watchdog.phase(phase, step, timeout_factor=factor)
        with translate_errors():
            trainer.begin_loop()
            while step < end:
                stopped, steps = self._sync_stop(end - step)
                if stopped:
                    break
                self._profiler.update(step)
                seconds = trainer.run(steps)
                step += steps
                self._learn_pace(seconds / steps)
                self._watchdog.phase(phase, step)
            self._profiler.update(step)
        if step > first:
            self._report(first, trainer.end_loop())

    def _sync_stop(self, steps: int) -> tuple[bool, int]:
        """Return whether SIGTERM has come to any process, and the steps to run."""
        if self._seconds_per_step is None:
            steps = 1
        else:
            longest = self._experiment.preemption_deadline_seconds * _DEADLINE_SHARE
            steps = min(steps, max(1, int(longest / self._seconds_per_step)))
        stopped, steps = self._processes.sum_over_processes(
            [self._preemption.requested, steps if self._processes.is_chief else 0]
        )
        return stopped > 0, steps

    def _learn_pace(self, seconds: float) -> None:
        """Note the seconds of a step; the first call of a program compiles it."""
        if self._stages.trainer.calls > 1:
            self._seconds_per_step = max(seconds, 1e-6)

    def _report(self, first: int, output: LoopOutput) -> None:
        row = self._telemetry.loop(
            output,
            macs_per_image=self._stages.macs(first),
            is_first=self._stages.trainer.loops == 1,
            save_seconds=self._save_seconds,
        )
        self._save_seconds = 0.0
        self._progress.update(output.step, row)

    def _stop_for_sigterm(self, step: int) -> None:
        """Save and end the process."""
        self._watchdog.phase("saving because of SIGTERM", step)
        self._telemetry.flush()  # before it, as in `_save`
        path = self._checkpoints.save(wait=True, preempted=True)
        self._telemetry.event(step, "preempted", checkpoint=path)
        raise Restart(f"stopped by SIGTERM at step {step:,}; {path} is written")

    def _handle(self, fault: NonFinite) -> None:
        """Keep the batch's records; go back to a checkpoint, or end the run."""
        experiment = self._experiment
        self._fence()
        batch = fault.step + int(self._state.skipped_batches.numpy())
        roll_backs = int(self._state.roll_backs.numpy())
        folder = f"{self._model_dir}/non_finite/step-{fault.step}-batch-{batch}"
        self._watchdog.phase("keeping the records of a batch", fault.step)
        hosts, num_hosts = input_hosts(self._strategy, self._processes)
        non_finite.save_bad_batch(
            experiment,
            self._info,
            folder,
            batch,
            shuffle_buffer=data_setting(experiment, "shuffle_buffer"),
            input_hosts=hosts,
            num_input_hosts=num_hosts,
            details={"step": fault.step, "fault": fault.what},
        )
        said = f"{fault} (batch {batch:,}); its records are in {folder}"
        if experiment.non_finite == "stop" or roll_backs >= experiment.max_roll_backs:
            self._telemetry.event(
                fault.step, "non_finite", batch=batch, records=folder, fault=fault.what
            )
            rolled_back = f" after {roll_backs} roll-backs" if roll_backs else ""
            raise UserError(
                f"{said}. The run ends{rolled_back} with its last checkpoint as it "
                "was. Set Experiment.non_finite = 'roll_back' to skip such batches; "
                "or, with --accept_config_changes, lower the learning rate "
                "(peak_per_256 of its schedule), lengthen the warmup or set "
                "Experiment.clip_norm"
            )
        self._roll_back(fault, batch, roll_backs, said, folder)

    def _roll_back(
        self, fault: NonFinite, batch: int, roll_backs: int, said: str, folder: str
    ) -> None:
        self._watchdog.phase("rolling back", fault.step)
        self._checkpoints.wait()
        with self._strategy.scope():
            # One that SIGTERM has saved would make the end depend on when it came.
            path = restore(
                self._checkpoints, self._processes, prefer=bundle.is_undisturbed
            )
            # What this process knows, and an older checkpoint does not.
            self._state.skipped_batches.assign(batch + 1 - self.step)
            self._state.roll_backs.assign(roll_backs + 1)
        warn(f"{said}; going on from {path} behind that batch")
        self._telemetry.go_back(self.step)
        self._telemetry.event(
            fault.step,
            "rolled_back",
            to=self.step,
            checkpoint=path,
            batch=batch,
            records=folder,
            fault=fault.what,
        )
        self._progress.go_back(self.step)


def _captions(labels: Iterable[int], names: Sequence[str]) -> list[str]:
    """Return what images are; label -1 is that of a record that cannot be read."""
    return [names[label] if label >= 0 else "(broken record)" for label in labels]


def restore(
    checkpoints: Checkpoints,
    processes: Processes,
    prefer: Callable[[str], bool] | None = None,
) -> str | None:
    """Fill the state of all processes from the checkpoint that the chief chooses."""
    return checkpoints.restore_newest(
        broadcast=processes.broadcast, is_chief=processes.is_chief, prefer=prefer
    )
