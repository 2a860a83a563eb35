"""Tell the mistakes of an evaluation: a page, TensorBoard, a line, summary.json."""

from collections.abc import Mapping
from typing import Any

import keras

from common import gfiles
from common.claims import Fence, Held, no_fence
from common.console import say, warn
from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo
from models.input_form import input_form
from train.experiment import Experiment
from train.mistakes import drawings, page, pictures, report
from train.mistakes.outcomes import Outcomes
from train.mistakes.report import Report
from train.telemetry.telemetry import Telemetry

PAGE = "mistakes.html"  # in the folder of a run


def make_report(
    experiment: Experiment,
    info: DatasetInfo,
    model: keras.Model,
    outcomes: Outcomes,
    scores: Mapping[str, Any],
) -> Report:
    """Return the mistakes of an evaluation, whose pictures are read for it.

    Args:
      experiment: of the run.
      info: of its data.
      model: that was scored.
      outcomes: of the images.
      scores: of the same evaluation.
    """
    resolution = input_form(model).resolution
    chosen = outcomes.worst(experiment.mistake_images)
    found: list[pictures.Picture | None] = [None] * len(chosen)
    places = outcomes.position[chosen]
    if (places >= 0).all():  # else nobody knows which records they are
        labels = outcomes.label[chosen]
        found[:] = pictures.read(
            experiment, info, places.tolist(), labels.tolist(), resolution
        )
    return report.make(
        outcomes,
        info.label_names,
        scores,
        network=f"{model.name}, {resolution} px",
        chosen=chosen.tolist(),
        pictures=found,
    )


def tell(
    made: Report,
    path: str | None,
    *,
    step: int = 0,
    telemetry: Telemetry | None = None,
    fence: Fence = no_fence,
) -> dict[str, Any]:
    """Write the page, show the same in TensorBoard, and say it in a line.

    Args:
      made: the report.
      path: of the page; None where it may not be written, which was said.
      step: of the checkpoint that was scored.
      telemetry: of the run; None for TensorBoard to show nothing.
      fence: see `train.checkpoints.bundle.write`.

    Returns:
      What summary.json says: the page's name, or None where it could not be written.
    """
    written = path is not None and _write(made, path, fence)
    if telemetry is not None:
        shown = {"confusion_matrix": drawings.matrix(made)}
        if (sheet := drawings.sheet(made)) is not None:
            shown["worst"] = sheet
        telemetry.mistakes(step, shown, drawings.text(made))
    page_at = path if written else None
    say(made.line(page_at or "its page is not written"))
    return made.summary(page_at and page_at.rpartition("/")[2])


def _write(made: Report, path: str, fence: Fence) -> bool:
    """Write the page; a page that may not be written ends no run, and is said."""
    try:
        gfiles.make_folder(path.rpartition("/")[0] or ".")
        data = page.render(made)
        gfiles.write_bytes(path, data, is_ours=page.is_ours, fence=fence)
    except Held:
        raise
    except UserError as refusal:
        warn(f"the page of the mistakes is not written: {refusal}")
        return False
    return True


def is_told(model_dir: str, checkpoint: str) -> dict[str, Any] | None:
    """Return what summary.json says of a checkpoint's mistakes, None for nothing.

    A page that has gone since is to be written again.
    """
    old = gfiles.read_json(f"{model_dir}/summary.json")
    found = old.get("mistakes")
    if old.get("checkpoint") != checkpoint or not isinstance(found, dict):
        return None
    return found if gfiles.exists(f"{model_dir}/{PAGE}") else None
