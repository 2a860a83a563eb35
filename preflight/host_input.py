"""What it costs the hosts of a slice to feed it with images."""

import time
from collections.abc import Collection

import keras

from models.input_form import InputForm
from train.datasets import training_images
from train.experiment import Experiment
from train.fault_tolerance.graph_errors import translate_errors
from train.stage_rows import BASE_STAGE, Stage
from train.stages import stage_form

_BATCH = 32
_WARM_UP = 8  # batches until all stages are at work
_SECONDS = 3.0


def costs_of_stages(
    experiment: Experiment, stages: Collection[Stage], model: keras.Model
) -> dict[Stage, float]:
    """Measure what an image of each stage costs here: `cpu_ms_per_image`."""
    known: dict[Stage, float] = {}  # by what makes the images of a stage others
    for stage in stages:
        if (images := _of_images(stage)) not in known:
            form = stage_form(stage, model)
            known[images] = cpu_ms_per_image(experiment, form, stage)
    return {stage: known[_of_images(stage)] for stage in stages}


def _of_images(stage: Stage) -> Stage:
    return Stage(**stage.given("resolution", "magnitude"))


def cpu_ms_per_image(
    experiment: Experiment, form: InputForm, stage: Stage = BASE_STAGE
) -> float:
    """Measure for some seconds what an image costs here, from record to batch.

    Args:
      experiment: whose training data, with its augmentation, is read; by this process,
        also where the run leaves that to a data service.
      form: of the images that the model takes in the stage.
      stage: of the run, which may change the augmentation.

    Returns:
      Milliseconds of one core.

    Raises:
      input_pipeline.errors.DataError: the data cannot be read.
    """
    dataset = training_images(experiment, form, stage, batch_size=_BATCH, service=None)
    with translate_errors():
        batches = iter(dataset)  # endless
        for _ in range(_WARM_UP):
            next(batches)
        began, cpu, images = time.monotonic(), time.process_time(), 0
        while time.monotonic() - began < _SECONDS:
            next(batches)
            images += _BATCH
    return 1e3 * (time.process_time() - cpu) / images
