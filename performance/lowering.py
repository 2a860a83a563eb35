"""Networks and their parts as StableHLO of inference, lowered by TensorFlow.

What was lowered once is kept on disk under all that decides on it, so that neither a
network nor a part that is known needs TensorFlow at all: see `lowered_cache`.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import models
from models.errors import ModelError, require
from models.variants import Variant
from performance import lowered_cache
from performance.segments import POLICIES, Block, Form, Piece, resolved

# All of models/ that building a network imports.
_BUILDING = (
    "__init__",
    "batch_norm",
    "blocks",
    "efficientnet_x",
    "errors",
    "imagenet",
    "initializers",
    "input_form",
    "layers",
    "parts",
    "scaling",
    "space_to_depth",
    "stem_forms",
    "transfer",
    "variants",
)
# What decides on a program beside what is asked.
_SOURCES = (
    *(Path(models.__file__).with_name(f"{name}.py") for name in _BUILDING),
    *(Path(__file__).with_name(name) for name in ("lowering.py", "segments.py")),
)


def network(
    variant: str | Variant, *, batch: int, dtype: str, **build_options: Any
) -> bytes:
    """Return the inference of a network as StableHLO: uint8 images to float32 logits.

    Args:
        variant: its name, or a Variant of your own.
        batch: images at once.
        dtype: "bfloat16" or "float32".
        **build_options: the other fields of `Form`.

    Returns:
        StableHLO's text. The images are the first argument, the variables the others.

    Raises:
        ModelError: no such variant, or a value out of range.
        CompilerError: the folder of what was lowered cannot be used.
    """
    form = Form.of(batch=batch, dtype=dtype, **build_options)
    variant = resolved(variant)
    return _program("network", variant.name, variant, form)


def part(piece: Piece, *, batch: int, dtype: str, **build_options: Any) -> bytes:
    """Return the inference of one of a network's parts as StableHLO.

    Args:
        piece: the part, one of `performance.segments.pieces`.
        batch: images at once.
        dtype: "bfloat16" or "float32".
        **build_options: the other fields of `Form`.

    Returns:
        StableHLO's text, the same wherever in a network the part stands. The first
        argument is a tensor [batch, height, width, channels] of the dtype, or, for the
        stem, the images.

    Raises:
        ModelError: a value out of range.
        CompilerError: the folder of what was lowered cannot be used.
    """
    form = Form.of(batch=batch, dtype=dtype, **build_options)
    return _program(piece.kind, piece.name, piece.of, form.of_piece(piece.kind))


def _program(kind: str, name: str, of: Block | Variant, form: Form) -> bytes:
    """Return a program that was lowered before, else lower it."""
    what = dataclasses.asdict(of) | {"name": kind}  # rows of the table may be equal
    asked = [kind, what, dataclasses.asdict(form), _versions()]
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    program = lowered_cache.load(key)
    if program is None:
        print(f"lowering {name}", file=sys.stderr, flush=True)
        program = _lower(kind, of, form)
        lowered_cache.store(key, program)
    return program


@functools.cache
def _versions() -> list[str]:
    """Return what changes with the code that builds and lowers."""
    code = hashlib.sha256()
    for path in _SOURCES:
        code.update(path.read_bytes())
    packages = ("tensorflow", "tensorflow-tpu", "tensorflow-cpu", "keras")
    found = [one for name in packages for one in metadata.distributions(name=name)]
    return [*(f"{one.name} {one.version}" for one in found), code.hexdigest()]


def _lower(kind: str, of: Block | Variant, form: Form) -> bytes:
    """Have TensorFlow lower a program."""
    # Its notes on the CPU and on missing GPUs bury what a person has to read.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _keras_on_tensorflow()
    import tensorflow as tf  # takes seconds

    try:
        # Else a GPU has the variables, and the program is that of the GPU's bridge.
        with tf.device("CPU:0"):
            if isinstance(of, Block):
                call, argument = _block(of, form)
            else:
                call, argument = _network(kind, of, form)
            program = tf.function(call, jit_compile=True, autograph=False)
            text = program.experimental_get_compiler_ir(argument)(stage="stablehlo")
    except tf.errors.ResourceExhaustedError as error:
        raise ModelError(
            f"the weights need more memory than there is here: {error.message}"
        ) from error
    # The name counts the functions that this process has traced.
    text = _replace_once(r"^module @\S+", "module @inference", text)
    return _with_free_layouts(kind, text).encode()


def _keras_on_tensorflow() -> None:
    """Import Keras on TensorFlow, whatever the user's settings for it are."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    backend = keras.config.backend()
    require(
        backend == "tensorflow",
        f"TensorFlow lowers the networks, and Keras is running on {backend} already: "
        "take a process of its own, or KERAS_BACKEND=tensorflow",
    )


def _with_free_layouts(kind: str, text: str) -> str:
    """Let the compiler choose how tensors lie that in a network stay on the device.

    Inside a network it does. A program's arguments and results have a layout by their
    shape alone, and a part would pay for copies from and to it.
    """
    free = '{mhlo.layout_mode = "auto"}'
    if kind not in ("network", "stem"):
        first = r"^( *func\.func @main\(%arg0: tensor<[^<>]*>)"
        text = _replace_once(first, rf"\1 {free}", text)
    if kind not in ("network", "head"):
        result = r"^( *func\.func @main\(.*\) -> )(tensor<[^<>]*>)"
        text = _replace_once(result, rf"\1(\2 {free})", text)
    return text


def _replace_once(pattern: str, new: str, text: str) -> str:
    text, count = re.subn(pattern, new, text, flags=re.M)
    assert count == 1, f"TensorFlow writes StableHLO in another way: no {pattern}"
    return text


def _network(kind: str, variant: Variant, form: Form) -> tuple[Callable, Any]:
    """Return a network, or its stem or head, as a function, and its argument's spec."""
    import keras
    import tensorflow as tf

    from models.input_form import input_form

    model = models.build_model(variant, **form.of_model())
    images = input_form(model)
    shape, dtype = list(images.image_shape), "uint8"
    shape.insert(images.batch_axis, form.batch)
    start, end = model.input, model.output
    if kind == "stem":
        end = model.get_layer("stem_activation").output
    if kind == "head":
        start = model.get_layer("block_0").output
        shape, dtype = [form.batch, *start.shape[1:]], form.dtype
    cut = keras.Model(start, end, name=kind)
    return functools.partial(cut, training=False), tf.TensorSpec(shape, dtype)


def _block(of: Block, form: Form) -> tuple[Callable, Any]:
    """Return a block as a function, and its argument's spec."""
    import tensorflow as tf

    from models.blocks import FusedMBConv, MBConv, run_chain
    from models.efficientnet_x import check_activation
    from models.space_to_depth import BatchToSpace, SpaceToBatch

    check_activation(of.spec.activation)  # of a whole network, build_model does it
    n, fold = of.spec.space_to_batch, 2 if of.of_patches else 1
    size, filters = of.input_size // fold, of.spec.input_filters * fold**2
    outside = (form.batch, size, size, filters)
    inside = (form.batch * n**2, size // n, size // n, filters)
    block = (FusedMBConv if of.spec.fused else MBConv)(
        of.spec,
        batch_norm_epsilon=of.batch_norm_epsilon,
        fold_batch_norm=form.fold_batch_norm,
        input_of_patches=of.of_patches,
        dtype=POLICIES[form.dtype],
        name="block",
    )
    block.build(inside)
    chain = [block]
    if of.enters:
        chain.insert(0, SpaceToBatch(n, name="space_to_batch"))
    if of.leaves:
        chain.append(BatchToSpace(n, name="batch_to_space"))
    spec = tf.TensorSpec(outside if of.enters else inside, form.dtype)
    return functools.partial(run_chain, chain), spec
