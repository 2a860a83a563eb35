"""Networks and their segments as StableHLO of inference, lowered by TensorFlow.

What was lowered once is kept on disk under all that decides on it, so that neither a
network nor a segment that is known needs TensorFlow at all: see `lowered_cache`.
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
from common.console import say
from models.errors import ModelError, require
from models.variants import Variant
from performance import lowered_cache
from performance.segments import POLICIES, BlockSegment, InferenceOptions, Segment

# All of models/ that building a network imports.
_BUILDING = (
    "__init__",
    "batch_norm",
    "blocks",
    "efficientnet_x",
    "errors",
    "foreign_names",
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


def network(variant: Variant, options: InferenceOptions) -> bytes:
    """Return the inference of a network as StableHLO: uint8 images to float32 logits.

    Returns:
      StableHLO's text. The images are the first argument, the variables the others.

    Raises:
      ModelError: the variant cannot be built with these options.
      CompilerError: the folder of what was lowered cannot be used.
    """
    return _program("network", variant.name, variant, options)


def segment(segment: Segment, options: InferenceOptions) -> bytes:
    """Return the inference of one of a network's segments as StableHLO.

    Returns:
      StableHLO's text, the same wherever in a network the segment stands. The first
      argument is a tensor [batch, height, width, channels] of the dtype, or, for the
      stem, the images.

    Raises:
      ModelError: it cannot be built with these options.
      CompilerError: the folder of what was lowered cannot be used.
    """
    kind = segment.kind
    own = options.of_segment(kind)
    return _program(kind, segment.name, segment.definition, own)


def stablehlo(call: Callable, *arguments: Any, name: str) -> str:
    """Have TensorFlow lower a function, for any device.

    Args:
      call: of tensors.
      *arguments: its TensorSpecs.
      name: that the module gets; TensorFlow's own counts the functions that this
        process has traced.

    Returns:
      StableHLO's text: of TensorFlow's bridge for the CPU, also where there is a GPU.
    """
    import tensorflow as tf  # takes seconds

    with tf.device("CPU:0"):
        program = tf.function(call, jit_compile=True, autograph=False)
        text = program.experimental_get_compiler_ir(*arguments)(stage="stablehlo")
    # Where a package lies does not count: an answer holds in every environment.
    text = re.sub(r'(loc\(")[^"]*/(?=site-packages/)', r"\1", text)
    # With a dynamic shape it is MLIR's generic form.
    pattern = r"(^module @|sym_name = \")a_inference_\w+__[.\d]*"
    return _replace_once(pattern, rf"\g<1>{name}", text)


def layer_name(scope: str) -> str:
    """Return the name of the layer that opened a scope for the second time or later.

    Keras numbers these on: block_4_1 is of block_4. Of block_4 itself it is "block".
    """
    return re.sub(r"_\d+$", "", scope)


def _program(
    kind: str, name: str, definition: BlockSegment | Variant, options: InferenceOptions
) -> bytes:
    """Return a program that was lowered before, else lower it."""
    # Rows of the table may be equal but for their names.
    what = dataclasses.asdict(definition) | {"name": kind}
    request = [kind, what, dataclasses.asdict(options), _versions()]
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    program = lowered_cache.load(key)
    if program is None:
        say(f"lowering {name}")
        program = _lower(kind, definition, options)
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


def _lower(
    kind: str, definition: BlockSegment | Variant, options: InferenceOptions
) -> bytes:
    """Have TensorFlow lower a program."""
    # Its notes on the CPU and on missing GPUs bury what a person has to read.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _keras_on_tensorflow()
    import tensorflow as tf  # takes seconds

    try:
        # Else a GPU has the variables.
        with tf.device("CPU:0"):
            if isinstance(definition, BlockSegment):
                call, argument = _block(definition, options)
            else:
                call, argument = _network(kind, definition, options)
            text = stablehlo(call, argument, name="inference")
    except tf.errors.ResourceExhaustedError as error:
        raise ModelError(
            f"the weights need more memory than there is here: {error.message}"
        ) from error
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
    shape alone, and a segment would pay for copies from and to it.
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


def _network(
    kind: str, variant: Variant, options: InferenceOptions
) -> tuple[Callable, Any]:
    """Return a network, or its stem or head, as a function, and its argument's spec."""
    import keras
    import tensorflow as tf

    from models.input_form import input_form

    model = models.build_model(variant, **options.of_model())
    images = input_form(model)
    shape, dtype = list(images.image_shape), "uint8"
    shape.insert(images.batch_axis, options.batch)
    start, end = model.input, model.output
    if kind == "stem":
        end = model.get_layer("stem_activation").output
    if kind == "head":
        start = model.get_layer("block_0").output
        shape, dtype = [options.batch, *start.shape[1:]], options.dtype
    cut = keras.Model(start, end, name=kind)
    return functools.partial(cut, training=False), tf.TensorSpec(shape, dtype)


def _block(block: BlockSegment, options: InferenceOptions) -> tuple[Callable, Any]:
    """Return a block as a function, and its argument's spec."""
    import tensorflow as tf

    from models.blocks import FusedMBConv, MBConv, run_chain
    from models.efficientnet_x import check_activation
    from models.space_to_depth import BatchToSpace, SpaceToBatch

    spec = block.spec
    check_activation(spec.activation)  # of a whole network, build_model does it
    n, fold = spec.space_to_batch, 2 if block.of_patches else 1
    size, filters = block.input_size // fold, spec.input_filters * fold**2
    outside = (options.batch, size, size, filters)
    inside = (options.batch * n**2, size // n, size // n, filters)
    layer = (FusedMBConv if spec.fused else MBConv)(
        spec,
        batch_norm_epsilon=block.batch_norm_epsilon,
        fold_batch_norm=options.fold_batch_norm,
        input_of_patches=block.of_patches,
        dtype=POLICIES[options.dtype],
        name="block",
    )
    layer.build(inside)
    chain = [layer]
    if block.enters:
        chain.insert(0, SpaceToBatch(n, name="space_to_batch"))
    if block.leaves:
        chain.append(BatchToSpace(n, name="batch_to_space"))
    entering = tf.TensorSpec(outside if block.enters else inside, options.dtype)
    return functools.partial(run_chain, chain), entering
