from docgen import search
from tests.docgen.test_tables import cells


def network(name, blocks, width, pixels, resolution_share, **fields):
    return {
        "name": name,
        "blocks": blocks,
        "width": width,
        "resolution": pixels,
        "gmacs": 3.456,
        "cheap_ms": 8.1,
        "parts_ms": 8.567,
        "exact_ms": 8.24,
        "top1": 80.08,
        "top1_spread": [79.71, 80.44],
        "shares": {"depth": 0.5, "width": 0.3, "resolution": resolution_share},
        **fields,
    }


def rival(name, low, high, network=None):
    return {
        "name": name,
        "network": network,
        "gain": {"top1": (low + high) / 2, "spread": [low, high]},
        "time_at_equal_top1": 0.784,
    }


FAMILY = {
    "tile_model": {"networks": 25, "leave_one_out": 0.0188},
    "outcomes": [
        {
            "target": "efficientnet-x-b1",
            "ms": 8.3656,
            "edges": ["width"],
            "chosen": network("mine-b1", 16, 1.75, 224, 0.0),
            "by_form": {
                "additive": network("a", 16, 1.75, 224, 0.0),
                "power": network("b", 17, 1.5, 240, 0.21),
            },
            "rivals": [
                rival("efficientnet", 0.4, 0.9, network("x-b1", 23, 1, 240, 0.28)),
                rival("random", -0.1, 0.3),
            ],
        }
    ],
    "references": [
        {
            "name": "efficientnetv2-s",
            "resolution": 384,
            "gmacs": 8.41,
            "ms": 26.13,
            "predicted_top1": None,
            "predicted_spread": None,
            "published_top1": 83.9,
            "published_remark": "",
        },
        {
            "name": "efficientnet-x-b1",
            "resolution": 240,
            "gmacs": 1.6,
            "ms": 8.37,
            "predicted_top1": 79.39,
            "predicted_spread": [79.2, 79.6],
            "published_top1": 79.4,
            "published_remark": "as remembered",
        },
    ],
}
SCALING = {
    "benchmark": "tpu.scaling",
    "families": {"v5e": FAMILY},
    "settings": {"batch": 64, "dtype": "bfloat16"},
}


def tables_of(text):
    parts = [part for part in text.split("\n\n") if part.startswith("|")]
    return [cells(part)[2:] for part in parts]


def test_a_family_and_what_stands_beside_it():
    text = search.scaling(SCALING, "the note")
    found, gains, beside = tables_of(text)
    assert found == [
        [
            *("efficientnet-x-b1", "8.37", "`mine-b1`", "16", "1.75", "224", "3.46"),
            *("8.10", "8.57", "8.24", "80.1 (79.7 to 80.4)", "78%"),
        ]
    ]
    assert gains == [
        [
            *("efficientnet-x-b1", "**+0.65** (+0.40 to +0.90)", "-", "-", "-"),
            "+0.10 (-0.10 to +0.30)",
        ]
    ]
    # What is remembered is said to be so.
    assert beside == [
        ["`efficientnetv2-s`", "384", "8.41", "26.1", "-", "83.9"],
        [
            *("`efficientnet-x-b1`", "240", "1.60", "8.37", "79.4 (79.2 to 79.6)"),
            "79.4 (recalled)",
        ],
    ]
    assert "25 networks, each of which the fit to the others misses by 1.9% rms" in text
    assert "At the end of the trust region: `mine-b1` (width)." in text
    assert text.endswith("the note")


def test_what_the_forms_say_of_the_resolution():
    text = search.scaling(SCALING, "")
    assert (
        "- efficientnet-x-b1: resolution has 0% to 21% of the growth, EfficientNet's "
        "scaling gives it 28% (below). By form: additive 16 blocks, width 1.75, 224 "
        "px; power 17 blocks, width 1.5, 240 px."
    ) in text
    forms = FAMILY["outcomes"][0]["by_form"]
    more = {**forms, "power": network("b", 17, 1.5, 240, 0.3)}
    outcome = {**FAMILY["outcomes"][0], "by_form": more}
    changed = {**FAMILY, "outcomes": [outcome]}
    text = search.scaling({**SCALING, "families": {"v3": changed}}, "")
    assert "gives it 28% (NOT below in every form)" in text
