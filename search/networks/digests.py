"""Which networks are one: a digest of what is built. Imports no framework."""

import hashlib
import json

from models import scaling
from models.scaling import BlockSpec
from models.variants import Variant

# Two names of one function of Keras.
_SYNONYMS = {"silu": "swish", "hard_silu": "hard_swish"}


def digest(variant: Variant) -> str:
    """Return 16 hexadecimal digits that two variants share if they build one network.

    Everything that the arithmetic depends on, in inference or in training, counts: the
    blocks as `models.scaling.block_specs` makes them, stem, head, resolution,
    activations, batch norm, dropout, normalisation of the pixels, dialect. Names do
    not, nor coefficients that are rounded alike, nor how blocks are divided into
    stages.

    Raises:
      ModelError: the variant cannot be built.
    """
    blocks = scaling.block_specs(variant)
    facts = [
        *(scaling.stem_filters(variant), scaling.head_filters(variant)),
        *(variant.resolution, _activation(variant.activation), variant.dialect),
        *(float(variant.dropout_rate), float(variant.batch_norm_epsilon)),
        float(variant.batch_norm_momentum),
        list(map(float, (*variant.mean_rgb, *variant.std_rgb))),
        *map(_facts, blocks),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _facts(block: BlockSpec) -> list[object]:
    """Return what a block computes.

    A skip where the shapes forbid one changes nothing; expand_ratio is in the expanded
    channels and in whether a convolution makes them; padding is in the dialect.
    """
    return [
        *(block.kernel_size, block.strides, block.input_filters),
        *(block.expanded_filters, block.has_expansion, block.output_filters),
        *(block.se_filters, _activation(block.activation), block.fused),
        *(block.space_to_depth, block.space_to_batch, block.has_skip, block.project),
    ]


def _activation(name: str) -> str:
    return _SYNONYMS.get(name, name)
