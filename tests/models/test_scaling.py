import pytest

from models import scaling
from models.variants import VARIANTS, get_variant


@pytest.mark.parametrize(
    ("filters", "width", "rounded"),
    [
        (32, 1.0, 32),
        (32, 1.1, 32),
        (16, 0.1, 8),  # never below the divisor
        (24, 0.5, 16),  # halves round up
        (19, 1.0, 24),  # 16 would lose more than a tenth
        (40, 1.05, 40),
        (1280, 1.05, 1344),
    ],
)
def test_round_filters(filters, width, rounded):
    assert scaling.round_filters(filters, width) == rounded


@pytest.mark.parametrize(
    ("num_repeat", "depth", "rounded"), [(1, 1.0, 1), (1, 1.1, 2), (4, 3.1, 13)]
)
def test_round_repeats(num_repeat, depth, rounded):
    assert scaling.round_repeats(num_repeat, depth) == rounded


@pytest.mark.parametrize("name", VARIANTS)
def test_stem_and_head(name, golden_variants):
    variant, golden = get_variant(name), golden_variants[name]
    assert scaling.stem_filters(variant) == golden["stem_filters"]
    assert scaling.head_filters(variant) == golden["head_filters"]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_field_of_every_block(name, golden_blocks):
    variant = get_variant(name)
    blocks = scaling.block_specs(variant)
    size = half(variant.resolution)
    rows = []
    for i, block in enumerate(blocks):
        out_size = half(size) if block.strides == 2 or block.space_to_depth else size
        rows.append(
            {
                "index": i,
                "kernel": block.kernel_size,
                "stride": block.strides,
                "expand": block.expand_ratio,
                "arg_in": block.expanded_filters / block.expand_ratio,
                "arg_out": block.output_filters,
                "tensor_in": block.input_filters,
                "tensor_out": block.output_filters,
                "expanded": block.expanded_filters,
                "fused": block.fused,
                "activation": block.activation,
                "se_filters": block.se_filters,
                "in_size": size,
                "out_size": out_size,
                "skip": block.has_skip,
                "survival_prob_train": pytest.approx(1 - 0.2 * i / len(blocks)),
            }
        )
        size = out_size
    golden = golden_blocks[name]
    assert [b.space_to_depth for b in blocks] == [g["space2depth"] == 1 for g in golden]
    for row, expected in zip(rows, golden, strict=True):
        assert row == {key: expected[key] for key in expected if key != "space2depth"}


def half(size):
    """Size after a stride of 2 with SAME padding."""
    return -(-size // 2)


def test_no_squeeze_and_excite():
    variant = get_variant("efficientnet-x-b0")
    stage = type(variant.stages[0])(1, 3, 1, 6, 16, 24, "relu", se_ratio=0)
    plain = type(variant)("plain", 1.0, 1.0, 64, 0.0, 4, (stage,))
    assert [block.se_filters for block in scaling.block_specs(plain)] == [0]
