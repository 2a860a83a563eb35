"""What it costs the hosts of a slice to feed it with images."""

import time

from models.input_form import InputForm
from train.datasets import training_images
from train.experiment import Experiment
from train.fault_tolerance.graph_errors import translate_errors

_BATCH = 32
_WARM_UP = 8  # batches until all stages are at work
_SECONDS = 3.0


def cpu_ms_per_image(experiment: Experiment, form: InputForm) -> float:
    """Measure for some seconds what an image costs here, from record to batch.

    Args:
      experiment: whose training data, with its augmentation, is read; by this process,
        also where the run leaves that to a data service.
      form: of the images that the model takes.

    Returns:
      Milliseconds of one core.

    Raises:
      input_pipeline.errors.DataError: the data cannot be read.
    """
    dataset = training_images(experiment, form, batch_size=_BATCH, service=None)
    with translate_errors():
        batches = iter(dataset)  # endless
        for _ in range(_WARM_UP):
            next(batches)
        began, cpu, images = time.monotonic(), time.process_time(), 0
        while time.monotonic() - began < _SECONDS:
            next(batches)
            images += _BATCH
    return 1e3 * (time.process_time() - cpu) / images
