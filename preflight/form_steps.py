"""The train step of a run whose network has another form, or takes other batches."""

import dataclasses

from input_pipeline.dataset_info import DatasetInfo
from performance import lowered_cache
from preflight import forms, program_keys
from preflight.lowered_steps import LoweredSteps
from train.experiment import Experiment
from train.stage_rows import Stage


@dataclasses.dataclass(frozen=True)
class RunInForm:
    """A run that differs from the recipe in what `preflight.tuning` compares.

    Attributes:
      form: of the network.
      first_layers: whether the network ends behind the first block.
      replica_images: in a step; None is as the recipe has it.
      micro_batches: of a replica's images; None is as the recipe has it.
    """

    form: forms.Form
    first_layers: bool = False
    replica_images: int | None = None
    micro_batches: int | None = None

    def of(self, experiment: Experiment, replicas: int) -> Experiment:
        """Return the recipe with these changes."""
        changed = forms.in_form(experiment, self.form)
        if self.first_layers:
            changed = forms.first_layers(changed)
        if self.replica_images is not None:
            size = self.replica_images * replicas
            changed = dataclasses.replace(changed, global_batch_size=size)
        if self.micro_batches is not None:
            count = self.micro_batches
            changed = dataclasses.replace(changed, accumulation_steps=count)
        return changed


class FormSteps:
    """Lowers train steps of forms, unless that was done before."""

    def __init__(self, experiment: Experiment, info: DatasetInfo, replicas: int):
        """Args: see `LoweredSteps`."""
        self._experiment, self._info, self._replicas = experiment, info, replicas
        self._built: tuple[RunInForm, LoweredSteps] | None = None

    def lower(self, run: RunInForm, stage: Stage, known: bytes) -> bytes:
        """Return StableHLO of a stage's update.

        Args:
          run: of which it is a step.
          stage: of the run.
          known: the same stage's update as the recipe has it, lowered just now.

        Raises:
          CannotLower: XLA does not have one of its ops.
          CompilerError: the folder of what was lowered cannot be used.
        """
        key = program_keys.of_another_form(known, dataclasses.asdict(run))
        program = lowered_cache.load(key)
        if program is None:
            if run.first_layers:
                stage = forms.first_layers_of(stage)
            program = self._steps(run).train_step(stage).stablehlo
            lowered_cache.store(key, program)
        return program

    def _steps(self, run: RunInForm) -> LoweredSteps:
        """Return the steps of a run, of which only the last one is kept in memory."""
        if self._built is None or self._built[0] != run:
            self._built = None  # frees its variables first
            changed = run.of(self._experiment, self._replicas)
            self._built = run, LoweredSteps(changed, self._info, self._replicas)
        return self._built[1]
