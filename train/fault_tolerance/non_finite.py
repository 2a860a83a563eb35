"""What happens to a loss that is not finite: it is named, and its records are kept."""

from collections.abc import Mapping
from typing import Any

from common import gfiles
from input_pipeline import batch_lookup
from input_pipeline.dataset_info import DatasetInfo
from train.experiment import Experiment


class NonFinite(Exception):  # noqa: N818 - the run may go on
    """An update, by its number from 0, is infinite or not a number.

    Attributes:
      step: updates before it.
      what: is not finite.
    """

    def __init__(self, step: int, what: str):
        super().__init__(f"{what} is not finite at step {step:,}")
        self.step = step
        self.what = what


def save_bad_batch(
    experiment: Experiment,
    info: DatasetInfo,
    folder: str,
    batch: int,
    *,
    shuffle_buffer: int | None,
    input_hosts: range,
    num_input_hosts: int,
    details: Mapping[str, Any],
) -> None:
    """Write which records a global batch was made of, and the records themselves.

    Args:
      experiment: of the run.
      info: of its data.
      folder: gets records.tfrecord and batch.json for each of the input hosts.
      batch: number of the global batch, from 0.
      shuffle_buffer: of the training data; None where they come from a function of the
        user's own, of whose batches nobody knows the records: batch.json says null.
      input_hosts: the input pipelines whose parts this process writes.
      num_input_hosts: how many there are in all processes.
      details: what else batch.json says.

    Raises:
      UserError: the folder cannot be written.
    """
    for host in input_hosts:
        part = f"{folder}/host-{host}"
        gfiles.make_folder(part)
        rows = None
        if shuffle_buffer is not None:
            records = batch_lookup.records_of_batch(
                info,
                experiment.data_dir,
                experiment.train_split,
                seed=experiment.seed,
                shuffle_buffer=shuffle_buffer,
                batch=batch,
                batch_size=experiment.global_batch_size // num_input_hosts,
                num_hosts=num_input_hosts,
                host=host,
            )
            rows = batch_lookup.dump(records, part)
        gfiles.write_json(
            f"{part}/batch.json", {**details, "batch": batch, "records": rows}
        )
