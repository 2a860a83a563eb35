"""A network of two blocks: what a loop needs to be tested, traced in seconds."""

from models import variants


def variant() -> variants.Variant:
    """Returns a stem, an MBConv and a fused MBConv with a skip, and a head."""
    stage = variants.StageSpec(
        num_repeat=1,
        kernel_size=3,
        strides=2,
        expand_ratio=2,
        output_filters=8,
        activation="swish",
    )
    skip = dict(vars(stage), strides=1, fused=True)
    return variants.Variant(
        name="tiny",
        width_coefficient=1.0,
        depth_coefficient=1.0,
        resolution=32,
        dropout_rate=0.2,
        se_coefficient=1,
        stages=(stage, variants.StageSpec(**skip)),
        stem_filters=8,
        head_filters=16,
    )
