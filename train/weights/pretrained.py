"""Weights to start from: the authors' checkpoints, timm's, torch's, a run of ours."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import keras
import numpy as np
import safetensors
import safetensors.numpy
import tensorflow as tf

from common import files, gfiles, storage_errors
from common.console import escaped, named, say
from common.errors import UserError, first_line
from models import weight_loading
from models.errors import ModelError
from train.checkpoints import bundle, directory
from train.experiment import Experiment
from train.weights import registry, torch_files

Kind = Literal["reference", "timm", "efficientnet_pytorch", "run"]

_RUN = re.compile("(model|ema)/")  # what the names of a run's weights begin with
_OWN = "stem_conv/kernel"  # in a file of weights by the paths of our variables
_MOST_BYTES = 2**33  # no network here has weights of half that size
_SAFETENSORS = ".safetensors"
_OF_TORCH = (".pth", ".pt", ".bin", ".tar", ".ckpt")  # .pth.tar is no tar file
# In a folder as timm writes it for its local-dir: names.
_TIMM_CONFIG, _TIMM_WEIGHTS = "config.json", "model.safetensors"


# What a new classifier's own start is multiplied by.
_NEW_HEAD = 0.01


def load_into(experiment: Experiment, model: keras.Model) -> None:
    """Set the weights that `experiment.pretrained` names.

    A new classifier begins near zero, as in BiT (arXiv 1912.11370, its code): the
    reference's start, which grows as classes get fewer, would have the network sure of
    nothing but noise, and the layers below would learn to mend that first. At zero
    itself all classes would be equally likely, which counts as right.
    """
    load(
        model,
        path=str(experiment.pretrained),
        averaged=experiment.pretrained_averages,
        new_head=experiment.new_head,
    )
    if experiment.new_head:
        kernel = model.get_layer("classifier").kernel
        kernel.assign(kernel * _NEW_HEAD)


def load(
    model: keras.Model,
    *,
    path: str,
    averaged: bool = True,
    new_head: bool = False,
) -> None:
    """Set a model's weights from other training.

    Args:
      model: what `build_model` returned; it stays as it is if anything does not fit.
      path: a name of `registry.WEIGHTS`; or local or gs://, of a TF1 checkpoint of the
        authors' (folder/model.ckpt), a state dict of timm's or efficientnet_pytorch's
        (file.safetensors, file.pth), a checkpoint of ours, or a folder that holds a
        checkpoint, such as a run's model_dir, of which it is the newest, or timm's
        config.json and model.safetensors. A .safetensors file may have our own names,
        too, the paths of a model's variables, as a search writes them. A folder that is
        called like a name of the registry is meant by ./NAME alone.
        timm's tf_efficientnet_b0 and efficientnet_b0 cannot be told apart: the second
        is for a model with dialect = 'timm' and batch_norm_epsilon = 1e-5.
      averaged: take the moving averages where the file has both, as training programs
        write it; of the authors' checkpoints and of runs they have to be there.
      new_head: leave the classifier as it is, for other classes.

    Raises:
      UserError: there is no such file, its package is not installed, or it cannot be
        read.
      ModelError: the weights are not for this model.
    """
    row = registry.WEIGHTS.get(path)
    if row and model.name != row.variant:
        raise ModelError(
            f"the weights {path} are those of the variant {row.variant}, and the model "
            f"is {model.name}: set efficientnet_x.build_model.variant = "
            f"{row.variant!r}, or name other weights"
        )
    kind, tensors = read(path, averaged=averaged)
    try:
        if kind == "reference":
            weight_loading.load_reference(
                model, tensors, averaged=averaged, new_head=new_head
            )
        elif kind == "timm":
            weight_loading.load_timm(model, tensors, new_head=new_head)
        elif kind == "efficientnet_pytorch":
            weight_loading.load_efficientnet_pytorch(model, tensors, new_head=new_head)
        else:
            part = "ema/" if averaged else "model/"
            own = {n.removeprefix(part): n for n in tensors if n.startswith(part)}
            weight_loading.load_by_path(
                model, _Tensors(own, tensors.__getitem__), new_head=new_head
            )
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def read(
    path: str, *, averaged: bool = True, tell: bool = True
) -> tuple[Kind, Mapping[str, np.ndarray]]:
    """Open a file of weights. Nothing in it is executed.

    Args:
      path: see `load`.
      averaged: of a file of torch's that has both, take the moving averages.
      tell: say what of a file is left out.

    Returns:
      Whose names they are, and the tensors by name: those of others as they are, a
      run's as model/... and ema/... with the path of the variable. Those of a
      checkpoint are read one by one, when they are asked for.

    Raises:
      UserError: there is no such file, it cannot be read, or it holds nothing that is
        known here.
    """
    if path in registry.WEIGHTS:
        path = str(registry.path(registry.WEIGHTS[path]))
    form, place = _find(path)
    if form == "safetensors":
        tensors = _read_safetensors(place)
        if _OWN in tensors:  # which are weights and averages in one
            names = {f"{part}/{n}": n for part in ("model", "ema") for n in tensors}
            return "run", _Tensors(names, tensors.__getitem__)
    elif form == "torch":
        tensors = _read_torch(place, averaged, tell)
    else:
        tensors = _open_checkpoint(place, path)
        of_run = {name: name for name in tensors if _RUN.match(name)}
        if of_run:
            bundle.read_manifest(place)  # raises if the index is not intact
            return "run", _Tensors(of_run, tensors.__getitem__)
    return _whose(path, tensors), tensors


def _whose(path: str, tensors: Iterable[str]) -> Kind:
    """Return who calls tensors so."""
    if any(re.search("(^|/)blocks_0/", name) for name in tensors):
        return "reference"
    if any(name.endswith("_conv_stem.weight") for name in tensors):
        return "efficientnet_pytorch"
    if any(name.endswith("conv_stem.weight") for name in tensors):
        return "timm"
    raise UserError(
        f"{path} holds no weights that are known here, neither the authors' "
        "(blocks_0/...) nor timm's (conv_stem.weight) nor efficientnet_pytorch's "
        f"(_conv_stem.weight) nor a run's (model/... or {_OWN}), but "
        f"{', '.join(sorted(tensors)[:3]) or 'nothing'}"
    )


def file_of(path: str | None) -> str | None:
    """Return a path as it is, None for a name of the registry."""
    return None if path in registry.WEIGHTS else path


class _Tensors(Mapping[str, np.ndarray]):
    """Tensors that are read when they are asked for."""

    def __init__(self, keys: Mapping[str, str], read_key: Callable[[str], np.ndarray]):
        """Make it of the keys by name, and what reads the tensor of a key."""
        self._keys = keys
        self._read_key = read_key

    def __getitem__(self, name: str) -> np.ndarray:
        return self._read_key(self._keys[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _read_safetensors(path: str) -> Mapping[str, np.ndarray]:
    """Read a .safetensors file, all of it."""
    content = _read_file(path)
    with _reading(path):
        tensors = safetensors.numpy.load(content)
    for name, value in tensors.items():
        _require_numbers(path, name, value)
    return tensors


def _read_torch(path: str, averaged: bool, tell: bool) -> Mapping[str, np.ndarray]:
    """Read a file of torch's."""
    content = _read_file(path)
    with _reading(path):
        found = torch_files.read(content, averaged=averaged)
    if found.skipped and tell:
        where = f" below {'.'.join(found.within)}" if found.within else ""
        say(
            escaped(
                f"{path}: the weights are taken{where}; "
                f"{named(found.skipped)} beside them "
                f"{'is' if len(found.skipped) == 1 else 'are'} not looked at"
            )
        )

    def read_key(key: str) -> np.ndarray:
        with _reading(path):
            value = found.read(key)
        _require_numbers(path, key, value)
        return value

    return _Tensors({name: name for name in found.tensors}, read_key)


def _read_file(path: str) -> bytes:
    with _reading(path):
        if not tf.io.gfile.exists(path):
            raise UserError(f"there is no file {path}{_by_name(path)}")
        gfiles.require_file(path)
        with tf.io.gfile.GFile(path, "rb") as file:
            if file.size() > _MOST_BYTES:
                raise UserError(
                    f"cannot read {path}: it has {file.size():,} bytes, more than the "
                    "weights of any network here"
                )
            return file.read()


def _open_checkpoint(prefix: str, path: str) -> Mapping[str, np.ndarray]:
    """Open the checkpoint `prefix`, which a person has called `path`."""
    with _reading(path):
        for file in (f"{prefix}.index", *tf.io.gfile.glob(f"{prefix}.data-*")):
            gfiles.require_file(file)
        reader = tf.train.load_checkpoint(prefix)
        names = reader.get_variable_to_shape_map()

    def read_key(key: str) -> np.ndarray:
        with _reading(path):
            value = np.asarray(reader.get_tensor(key))
        _require_numbers(path, key, value)
        return value

    return _Tensors({name: name for name in names}, read_key)


def _require_numbers(path: str, name: str, value: np.ndarray) -> None:
    # bfloat16 is of the kind V, for numpy does not know it.
    if value.dtype.kind in "bOSU":
        kind = {"b": "BOOL"}.get(value.dtype.kind, "text")
        raise UserError(f"{path}: {name} holds {kind}, which is no weight")


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn what a path, or a broken file, raises into a UserError."""
    try:
        yield
    except torch_files.DamagedError as error:
        raise UserError(
            f"cannot read {path}: it holds {error}; fetch it again"
        ) from error
    except torch_files.RefusedError as error:
        raise UserError(
            escaped(
                f"cannot read {path}: it holds {error}, and nothing that stands in a "
                "file is run here; if you trust it, load it with the program that has "
                "written it, and save the state dict alone"
            )
        ) from error
    except KeyError as error:  # numpy knows no such type of number
        raise UserError(
            f"cannot read {path}: it holds numbers of the type {error}; save its "
            "tensors as float32"
        ) from error
    except UnicodeEncodeError as error:
        raise UserError(
            f"cannot read {path}: its name is not UTF-8; rename it"
        ) from error
    except tf.errors.OpError as error:
        if storage_errors.is_remote(path):
            raise storage_errors.cannot_read(path, error) from error
        why = f"{first_line(error)}; fetch it again"
        raise UserError(f"cannot read {path}: {why}") from error
    except (
        safetensors.SafetensorError,
        ValueError,
        IndexError,  # cut off
    ) as error:
        raise UserError(
            f"cannot read {path}: {first_line(error)}; fetch it again"
        ) from error


# What stands in a file of another kind by its name, and the way in.
_FOREIGN = {
    (".h5", ".hdf5", ".keras"): "is a file of Keras', which is not read here; take the "
    "same network's weights from timm, as .safetensors, or from the authors, as a "
    "checkpoint",
    (".pb",): "is a SavedModel's, which is not read here; name the folder of the run "
    "that it was exported from",
}
# An address of another tool's, or a word without a path.
_NAME = re.compile(r"(hf|hf-hub|hf_hub|timm|huggingface|keras|torchvision)[:/].*|[^/]*")


def _find(path: str) -> tuple[Literal["safetensors", "torch", "checkpoint"], str]:
    """Return of what form the weights at a path are, and where their file is.

    Of a checkpoint this is what all its files begin with, as TensorFlow wants it.
    """
    if path.endswith(_SAFETENSORS):
        return "safetensors", path
    if why := files.why_a_pattern(path):
        if path.endswith(_OF_TORCH):
            return "torch", path
        raise UserError(f"cannot read {path}: {why}")
    gfile = tf.io.gfile
    prefix = re.sub(r"\.(index|data-\d+-of-\d+)$", "", path)
    with _reading(path):
        if gfile.exists(f"{prefix}.index"):
            return "checkpoint", prefix
        if gfile.isdir(path):
            return _in_folder(path)
        if not gfile.exists(path):
            raise UserError(
                f"there is no checkpoint, file or folder {path}{_by_name(path)}"
            )
    if path.endswith(_OF_TORCH):
        return "torch", path
    _refuse_foreign(path)
    raise UserError(
        f"{path} is no file of weights that is known here: name a .safetensors or .pth "
        "file, or a checkpoint by what stands before .index"
    )


def _in_folder(folder: str) -> tuple[Literal["safetensors", "checkpoint"], str]:
    if newest := directory.newest_intact(folder):
        return "checkpoint", newest
    path = folder.rstrip("/")
    if all(tf.io.gfile.exists(f"{path}/{n}") for n in (_TIMM_CONFIG, _TIMM_WEIGHTS)):
        return "safetensors", f"{path}/{_TIMM_WEIGHTS}"
    return "checkpoint", _only_checkpoint(folder)


def _refuse_foreign(path: str) -> None:
    for suffixes, text in _FOREIGN.items():
        if path.endswith(suffixes):
            raise UserError(f"{path} {text.replace('{0}', path)}")


def _by_name(path: str) -> str:
    """Return what to do instead where weights were asked for by a name."""
    if not _NAME.fullmatch(path):
        return ""
    if why := registry.why_unknown(path):
        return f"; {why}"
    return (
        f"; by name there are {', '.join(registry.WEIGHTS)}; others are not "
        "fetched: download timm's "
        ".safetensors or the authors' checkpoint, and name the path"
    )


def _only_checkpoint(folder: str) -> str:
    """Return the checkpoint that a folder's `checkpoint` names, or the only one."""
    folder = folder.rstrip("/")
    found = sorted(tf.io.gfile.glob(f"{folder}/*.index"))
    if len(found) == 1:
        return found[0].removesuffix(".index")
    if (named := _latest(folder)) in found:
        return named.removesuffix(".index")
    if found:
        names = ", ".join(_name(path).removesuffix(".index") for path in found[:5])
        raise UserError(f"{folder} holds several checkpoints, name one: {names}")
    for path in sorted(tf.io.gfile.glob(f"{folder}/*")):
        if path.endswith((_SAFETENSORS, *_OF_TORCH)):
            raise UserError(
                f"there is no checkpoint in the folder {folder}; name its file {path}"
            )
        _refuse_foreign(path)
    raise UserError(f"there is no checkpoint in the folder {folder}")


def _latest(folder: str) -> str:
    """Return the index that TensorFlow 1's list of checkpoints names, "" for none.

    By its name alone: the folder may have come from another machine.
    """
    path = f"{folder}/checkpoint"
    if gfiles.kind(path) != files.FILE:
        return ""
    with tf.io.gfile.GFile(path, "rb") as file:
        text = file.read(1 << 16).decode(errors="replace")
    found = re.match(r'\s*model_checkpoint_path: *"([^"\n]*)"', text)
    return f"{folder}/{_name(found[1])}.index" if found else ""


def _name(path: str) -> str:
    return path.rpartition("/")[2]
