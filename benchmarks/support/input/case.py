"""What `benchmarks.input` measures: the settings, and the names of the pipelines."""

import dataclasses

BATCH = 64
SHUFFLE_BUFFER = 1024
PEERS = ("model_garden",)
# The pipelines: all of it, the same by TensorFlow's own ops alone, what ends at a stage
# of the latter, and the making of batches by itself.
WHOLE, PLAIN, BATCHING = "whole", "plain", "batch"
# Of evaluation, by the type of its pixels.
EVALUATIONS = {"float32": "evaluation float32", "uint8": "evaluation uint8"}
PREFIXES = ("read", "parse", "decode_crop", "resize", "flip", "augment")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputSettings:
    """What is measured; flags of the command line."""

    data_dir: str
    split: str
    resolution: int
    images: int
    augments: bool
    num_layers: int
    magnitude: float
