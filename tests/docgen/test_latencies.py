from docgen import latencies
from tests.docgen.test_tables import cells


def choice(stage, fused, kernel, expansion, ms, own=False):
    return {
        "topology": "v3",
        "stage": stage,
        "fused": fused,
        "kernel_size": kernel,
        "expand_ratio": expansion,
        "ms": ms,
        "reason": "" if ms else "does not fit",
        "of_x_b0": own,
    }


STAGE_CHOICES = {
    "base": "efficientnet-x-b0",
    "settings": {"topologies": ["v3"], "batch": 64, "dtype": "bfloat16"},
    "rows": [
        choice(1, True, 3, 1, 1.5),
        choice(1, True, 5, 1, 2.0),
        choice(1, False, 3, 1, 1.25, own=True),
        choice(1, False, 5, 1, None),
        choice(2, True, 3, 6, 2.0, own=True),
        choice(2, True, 5, 6, 3.0),
        choice(2, True, 3, 3, 1.0),
        choice(2, False, 3, 6, 4.0),
        choice(2, False, 5, 6, 6.0),
        choice(2, False, 3, 3, 1.0),
    ],
}
TILE_MODEL = {
    "settings": {"batch": 64, "dtype": "bfloat16"},
    "generations": [
        {
            "topology": "v3",
            "networks": [{}] * 21,
            "features": ["depthwise_out", "matrix"],
            "rms": 0.0213,
            "worst": -0.0507,
            "choice_left_out": 0.0251,
            "another_base": None,
            "error_of_sums": 0.0223,
        }
    ],
}


def test_the_faster_of_fused_and_depthwise_is_bold():
    text = latencies.stage_choices(STAGE_CHOICES, "the note")
    head, _, first, second = cells(text)
    assert head == [
        *("v3, stage", "fused 3x3", "depthwise 3x3", "fused 5x5", "depthwise 5x5"),
        *("expansion 3, own kernel: fused", "depthwise"),
    ]
    assert first == ["1", "1.50", r"**1.25\***", "2.00", "-", "-", "-"]
    assert second == [
        *("2", r"**2.00\***", "4.00", "**3.00**", "6.00", "**1.00**", "**1.00**")
    ]
    assert text.endswith("\n\nthe note")


def test_errors_of_the_tile_model():
    text = latencies.tile_model(TILE_MODEL, "the note")
    assert cells(text)[2] == [
        *("v3", "21", "depthwise out, matrix", "2.1", "-5.1", "2.5", "-", "2.2")
    ]
    assert text.endswith("\n\nthe note")


def test_draws_by_day_and_at_night(tmp_path):
    from PIL import Image

    latencies.draw(STAGE_CHOICES, tmp_path)
    corners = []
    for name in latencies.PICTURE.files:
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 600
            corners.append(picture.convert("RGB").getpixel((0, 0)))
    assert corners == [(255, 255, 255), (13, 17, 23)]
