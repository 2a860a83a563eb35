"""Which forms an export may have, in which files, and what their making needs.

Nothing slow is imported: mistakes in the flags are answered at once.
"""

import argparse
import dataclasses
from typing import NamedTuple

from common import cli, extras
from common.checks import nearest_names
from common.errors import UserError

SAVED_MODEL = "savedmodel"
LITERT, ONNX = "litert", "onnx"
INT8 = "litert-int8"


class Form(NamedTuple):
    """A form that is a file.

    Attributes:
      file: its name in the export.
      pixels: of what type its input is.
      is_exact: whether its arithmetic is that of the SavedModel, float32 throughout.
      packages: what makes and runs it, as it is imported.
    """

    file: str
    pixels: str
    is_exact: bool
    packages: tuple[str, ...]


_TO_RUN_LITERT = ("ai_edge_litert",)
FORMS = {
    "litert-float32": Form("model_float32.tflite", "float32", True, _TO_RUN_LITERT),
    "litert-float16": Form("model_float16.tflite", "float32", False, _TO_RUN_LITERT),
    INT8: Form("model_int8.tflite", "uint8", False, _TO_RUN_LITERT),
    ONNX: Form("model.onnx", "float32", True, ("onnx", "onnxruntime", "tf2onnx")),
}
_ALL_OF_LITERT = tuple(name for name in FORMS if name.startswith(f"{LITERT}-"))
_CHOICES = {
    SAVED_MODEL: (),
    LITERT: _ALL_OF_LITERT,
    **{name: (name,) for name in FORMS},
}
CHOICES = ", ".join(_CHOICES)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is wanted beside the SavedModel.

    Attributes:
      forms: names of `FORMS`.
      calibration_images: of how many training images int8 learns the ranges.
      score_images: how many images of the evaluation split all forms are scored on, at
        most.
      max_loss: points of top-1 that float16 and int8 may lose.
    """

    forms: tuple[str, ...] = ()
    calibration_images: int = 300
    score_images: int = 1000
    max_loss: float = 1.0

    @property
    def calibrates(self) -> bool:
        """Whether training images are needed."""
        return INT8 in self.forms


def parse(text: str) -> tuple[str, ...]:
    """Return the names of `FORMS` that a flag asks for; the SavedModel is none.

    Raises:
      ArgumentTypeError: a name is not known.
    """
    found: list[str] = []
    for name in cli.names(text):
        if name not in _CHOICES:
            near = nearest_names(name, _CHOICES)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise argparse.ArgumentTypeError(f"{name} is none of {CHOICES}{hint}")
        found.extend(_CHOICES[name])
    return tuple(name for name in FORMS if name in found)


def require_packages(wanted: Wanted) -> None:
    """Refuse forms whose packages are not there.

    Raises:
      UserError: says how to install them.
    """
    packages = {p: None for name in wanted.forms for p in FORMS[name].packages}
    if packages:
        extras.require(*packages, task=f"--format={','.join(wanted.forms)}")


def without_images(wanted: Wanted, why: str) -> UserError:
    """Return why int8 is refused where there are no images to calibrate it on.

    Args:
      wanted: what is.
      why: there are no training images.
    """
    rest = [name for name in wanted.forms if name != INT8]
    return UserError(
        f"{INT8} is calibrated on training images, and {why}: name photos "
        "(--check_images PATH ...), or leave it out "
        f"(--format={','.join(rest) or SAVED_MODEL})"
    )
