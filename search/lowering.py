"""Networks and their parts as StableHLO of inference, lowered by TensorFlow.

What was lowered once is kept on disk under all that decides on it, so that neither a
network nor a part that is known needs TensorFlow at all.
"""

import dataclasses
import functools
import gzip
import hashlib
import json
import os
import re
import uuid
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import models
from models import scaling
from models.scaling import BlockSpec
from models.variants import (
    StageSpec,
    Variant,
    get_variant,
    nearest_names,
    require,
)
from tpu_compiler.cache import default_folder

POLICIES = {"bfloat16": "mixed_bfloat16", "float32": "float32"}
Kind = Literal["stem", "depthwise", "fused", "head"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """In what form inference is lowered; but for the first two, `build_model`'s.

    Attributes:
      batch: images at once.
      dtype: of the arithmetic, "bfloat16" or "float32"; variables are float32.
      num_classes: number of logits.
      fold_batch_norm: convolutions with a bias in place of batch norm.
      stem_block_size: 1, 2 or 4 pixels a side of the stem's patches.
      stem_reshuffle: who makes these: "device" or "host".
      input_layout: of the pixels, "NHWC" or "HWCN".
    """

    batch: int
    dtype: str
    num_classes: int = 1000
    fold_batch_norm: bool = False
    stem_block_size: int = 1
    stem_reshuffle: str = "device"
    input_layout: str = "NHWC"

    def __post_init__(self):
        require(
            type(self.batch) is int and self.batch >= 1,
            f"batch must be an integer of 1 or more, not {self.batch!r}",
        )
        known = ", ".join(POLICIES)
        require(
            self.dtype in POLICIES, f"dtype must be one of {known}, not {self.dtype!r}"
        )

    @classmethod
    def of(cls, *, batch: int, dtype: str, **build_options: Any) -> "Form":
        """Makes a form of what the functions here and in `latency` are given.

        Raises:
          ModelError: an option that is unknown or that decides on the architecture.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in build_options:
            near = nearest_names(name, names)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            require(
                name in names,
                f"a form of inference has no option {name!r}: {hint}another "
                "architecture is a Variant of its own, see models.change",
            )
        return cls(batch=batch, dtype=dtype, **build_options)

    def of_model(self) -> dict[str, Any]:
        """Returns the arguments of `build_model`."""
        options = vars(self) | {"dtype": POLICIES[self.dtype]}
        return {name: value for name, value in options.items() if name != "batch"}


@dataclasses.dataclass(frozen=True)
class Block:
    """What a block's program depends on, beside the form.

    Attributes:
      spec: its sizes.
      input_size: height and width in pixels of the tensor that enters.
      batch_norm_epsilon: of the variant.
      of_patches: the stem has put 2x2 pixels of that tensor into the channels.
      enters: moves pixels into the batch first, being of a section by space_to_batch.
      leaves: moves them back at its end.
    """

    spec: BlockSpec
    input_size: int
    batch_norm_epsilon: float
    of_patches: bool = False
    enters: bool = False
    leaves: bool = False


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a network as it stands there.

    Attributes:
      name: "stem", "block_0", "block_1", ..., "head": the last with pooling and
        classifier.
      kind: of which sort.
      input_size: height and width in pixels of what enters.
      output_size: of what leaves; 1 behind the head.
      of: all that its program depends on, beside the form: a block, or the least
        network that has this stem or head.
    """

    name: str
    kind: Kind
    input_size: int
    output_size: int
    of: Block | Variant


def pieces(variant: str | Variant, form: Form) -> list[Piece]:
    """Returns all parts of a network, first to last; their programs do not overlap.

    Raises:
      ModelError: no such variant, or it cannot be built in this form.
    """
    variant = _resolved(variant)
    specs = scaling.block_specs(variant)
    require(
        form.stem_block_size < 4 or specs[0].space_to_depth == "conv",
        f"stem_block_size 4 needs the learned space-to-depth in block 0, which "
        f"{variant.name} has not; use 2",
    )
    size, sizes = variant.resolution, scaling.sizes_behind(variant.resolution, specs)
    found = [Piece("stem", "stem", size, sizes[0], _least_with_stem(variant))]
    for i, spec in enumerate(specs):
        n = spec.space_to_batch
        block = Block(
            spec,
            sizes[i],
            variant.batch_norm_epsilon,
            of_patches=form.stem_block_size == 4 and i == 0,
            enters=n > 1 and (i == 0 or specs[i - 1].space_to_batch != n),
            leaves=n > 1 and (i + 1 == len(specs) or specs[i + 1].space_to_batch != n),
        )
        kind = "fused" if spec.fused else "depthwise"
        found.append(Piece(f"block_{i}", kind, sizes[i], sizes[i + 1], block))
    head = _least_with_head(variant, sizes[-1], specs[-1].output_filters)
    return [*found, Piece("head", "head", sizes[-1], 1, head)]


def network(
    variant: str | Variant, *, batch: int, dtype: str, **build_options: Any
) -> bytes:
    """Returns the inference of a network as StableHLO: uint8 images to float32 logits.

    Args:
      variant: its name, or a Variant of your own.
      batch: images at once.
      dtype: "bfloat16" or "float32".
      **build_options: the other fields of `Form`.

    Returns:
      StableHLO's text. The images are the first argument, the variables the others.

    Raises:
      ModelError: no such variant, or a value out of range.
    """
    variant = _resolved(variant)
    form = Form.of(batch=batch, dtype=dtype, **build_options)
    return _kept("network", variant, form)


def part(piece: Piece, *, batch: int, dtype: str, **build_options: Any) -> bytes:
    """Returns the inference of one of a network's parts as StableHLO.

    Args:
      piece: the part, one of `pieces`.
      batch: images at once.
      dtype: "bfloat16" or "float32".
      **build_options: the other fields of `Form`.

    Returns:
      StableHLO's text, the same wherever in a network the part stands. The first
      argument is a tensor [batch, height, width, channels] of the dtype, or, for the
      stem, the images.

    Raises:
      ModelError: a value out of range.
    """
    form = Form.of(batch=batch, dtype=dtype, **build_options)
    if piece.kind != "stem":
        form = dataclasses.replace(form, **_FORM_OF_THE_STEM)
    if piece.kind != "head":
        form = dataclasses.replace(form, num_classes=1)
    kind = piece.kind if isinstance(piece.of, Variant) else "block"
    return _kept(kind, piece.of, form)


# What only the stem depends on, at its default.
_FORM_OF_THE_STEM: dict[str, Any] = {
    "stem_block_size": 1,
    "stem_reshuffle": "device",
    "input_layout": "NHWC",
}


def _resolved(variant: str | Variant) -> Variant:
    return get_variant(variant) if isinstance(variant, str) else variant


def _least_with_stem(variant: Variant) -> Variant:
    """Returns a network of this stem and of one block, the variant's first."""
    first = dataclasses.replace(variant.stages[0], num_repeat=1)
    return dataclasses.replace(
        variant,
        name="stem",
        stages=(first,),
        depth_coefficient=1.0,
        dropout_rate=0.0,
        head_filters=8,
        block_changes=tuple(one for one in variant.block_changes if one[0] == 0),
    )


def _least_with_head(variant: Variant, size: int, filters: int) -> Variant:
    """Returns a network of this head and of one small block."""
    only = StageSpec(1, 1, 1, 1, filters, "relu", se_ratio=0)
    return dataclasses.replace(
        variant,
        name="head",
        stages=(only,),
        width_coefficient=1.0,
        depth_coefficient=1.0,
        se_coefficient=1.0,
        resolution=2 * size,
        dropout_rate=0.0,
        stem_filters=8,
        head_filters=scaling.head_filters(variant),
        block_changes=(),
    )


def _kept(kind: str, of: Block | Variant, form: Form) -> bytes:
    """Returns a program that was lowered before, else lowers it."""
    asked = [kind, dataclasses.asdict(of), dataclasses.asdict(form), _versions()]
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    path = default_folder().with_name("lowered") / f"{key}.mlir.gz"
    try:
        return gzip.decompress(path.read_bytes())
    except (FileNotFoundError, EOFError, gzip.BadGzipFile, zlib.error):
        program = _lower(kind, of, form)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{uuid.uuid4().hex}")
    aside.write_bytes(gzip.compress(program))
    os.replace(aside, path)
    return program


@functools.cache
def _versions() -> list[str]:
    """Returns what changes with the code that builds and lowers."""
    code = hashlib.sha256()
    files = Path(models.__file__).parent.glob("*.py")
    for path in [*sorted(files), Path(__file__)]:
        code.update(path.read_bytes())
    packages = ("tensorflow", "tensorflow-tpu", "tensorflow-cpu", "keras")
    found = [one for name in packages for one in metadata.distributions(name=name)]
    return [*(f"{one.name} {one.version}" for one in found), code.hexdigest()]


def _lower(kind: str, of: Block | Variant, form: Form) -> bytes:
    """Has TensorFlow lower a program; loads it, which takes seconds."""
    import tensorflow as tf

    call, specs = (
        _block(of, form) if isinstance(of, Block) else _network(kind, of, form)
    )
    program = tf.function(call, jit_compile=True, autograph=False)
    text = program.experimental_get_compiler_ir(*specs)(stage="stablehlo")
    # The name counts the functions that this process has traced.
    return re.sub(r"^module @\S+", "module @inference", text, flags=re.M).encode()


def _network(kind: str, variant: Variant, form: Form):
    """Returns a network, or its stem or head, as a function and its argument's spec."""
    import keras
    import tensorflow as tf

    from models.rewrites import input_form

    model = models.build_model(variant, survival_prob=1.0, **form.of_model())
    form_of_images = input_form(model)
    shape, dtype = list(form_of_images.image_shape), tf.uint8
    shape.insert(form_of_images.batch_axis, form.batch)
    if kind == "stem":
        last = model.get_layer("stem_activation")
        model = keras.Model(model.input, last.output)
    if kind == "head":
        before = model.get_layer("block_0").output
        model = keras.Model(before, model.output)
        shape, dtype = [form.batch, *before.shape[1:]], form.dtype
    return functools.partial(model, training=False), [tf.TensorSpec(shape, dtype)]


def _block(of: Block, form: Form):
    """Returns a block as a function, and its argument's spec."""
    import tensorflow as tf

    from models.blocks import FusedMBConv, MBConv, run_chain
    from models.reshuffle import BatchToSpace, SpaceToBatch

    block = (FusedMBConv if of.spec.fused else MBConv)(
        of.spec,
        batch_norm_epsilon=of.batch_norm_epsilon,
        fold_batch_norm=form.fold_batch_norm,
        input_of_patches=of.of_patches,
        dtype=POLICIES[form.dtype],
        name="block",
    )
    n, fold = of.spec.space_to_batch, 2 if of.of_patches else 1
    size, filters = of.input_size // fold, of.spec.input_filters * fold**2
    images, inside = form.batch, size // n
    before = [SpaceToBatch(n, name="space_to_batch")] if of.enters else []
    behind = [BatchToSpace(n, name="batch_to_space")] if of.leaves else []
    if n > 1 and not of.enters:
        images, size = images * n**2, inside
    block.build((images * n**2 if of.enters else images, inside, inside, filters))
    chain = [*before, block, *behind]
    spec = tf.TensorSpec([images, size, size, filters], form.dtype)
    return (lambda x: run_chain(chain, x)), [spec]
