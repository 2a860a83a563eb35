from common import files
from docgen import headline
from tests.docgen.test_results import COMMON
from tests.docgen.test_tables import cells


def pair(theirs, ours, families, top1s, times, recipe="plain"):
    """Return a pair: families and accuracies of both, times by generation of both."""
    ours_published = {"top1": top1s[1], "recipe": "the paper's"} if top1s[1] else None
    return {
        "theirs": theirs,
        "theirs_family": families[0],
        "theirs_published": {"top1": top1s[0], "recipe": recipe},
        "ours": ours,
        "ours_family": families[1],
        "ours_published": ours_published,
        "theirs_ms": {name: one for name, (one, _) in times.items()},
        "ours_ms": {name: one for name, (_, one) in times.items()},
        "ratio": {
            name: one / other if one and other else None
            for name, (one, other) in times.items()
        },
    }


X_B0, X_B3 = "efficientnet-x-b0", "efficientnet-x-b3"
V2 = "EfficientNetV2", "X"
REPORT = {
    "benchmark": "tpu.headline",
    "pairs": [
        pair(
            *("efficientnet-b0", X_B0, ("EfficientNet", "X"), (77.1, 77.3)),
            {"v3": (16.0, 10.0), "v6e": (5.5, 2.5)},
        ),
        pair(
            *("efficientnet-b3", "efficientnet-x-tpu-b3", ("EfficientNet", "X-TPU")),
            *((81.6, None), {"v3": (57.0, 38.0), "v6e": (21.23, None)}),
        ),
        pair(
            *("efficientnetv2-b0", X_B0, V2, (78.7, 77.3)),
            {"v3": (12.0, 10.0), "v6e": (2.0, 2.5)},
        ),
        pair(
            *("efficientnetv2-b3", X_B3, V2, (82.1, 81.4)),
            {"v3": (20.0, 40.0), "v6e": (None, None)},
        ),
        pair(
            *("regnety_160", X_B3, ("RegNetY", "X"), (80.4, 81.4)),
            {"v3": (66.8, 40.0), "v6e": (None, None)},
        ),
        pair(
            *("regnety_160", X_B3, ("RegNetY", "X"), (82.9, 81.4)),
            *({"v3": (66.8, 40.0), "v6e": (None, None)}, "300 epochs"),
        ),
    ],
    "not_compiled": {"v6e: regnety_160, as written": "needs 40 GiB"},
    "missing": ["v6e: resnest50d, as written", "v4: efficientnet-b0, as published"],
    "settings": {"topologies": ["v3", "v6e"], "batch": 64, "dtype": "bfloat16"},
    **COMMON,
}


def test_every_pair_on_every_generation():
    text = headline.generations(REPORT)
    assert text.startswith(
        "Inference of a batch of 64 in bfloat16 on one core of a v3 chip and one v6e "
        "chip, as XLA's TPU compiler estimates it; no TPU was run: theirs over ours"
    )
    rows = cells(text)
    assert rows[0] == ["theirs (top-1 %)", "ours", "top-1 %", "v3", "v6e"]
    assert rows[2:5] == [
        [
            *("efficientnet-b0 (77.1)", "x-b0", "77.3"),
            *("**1.60** (16.0 : 10.0)", "**2.20** (5.50 : 2.50)"),
        ],
        [
            *("efficientnet-b3 (81.6)", "x-tpu-b3", "-"),
            *("**1.50** (57.0 : 38.0)", "- (21.2 : -)"),
        ],
        [
            *("efficientnetv2-b0 (78.7)", "x-b0", "77.3"),
            *("**1.20** (12.0 : 10.0)", "**0.800** (2.00 : 2.50)"),
        ],
    ]
    # Its two recipes are told apart.
    assert [row[0] for row in rows[6:]] == [
        "regnety_160 (80.4, plain)",
        "regnety_160 (82.9, 300 epochs)",
    ]
    assert rows[6][-1] == "-"
    assert "\n\nNot compiled for v6e: regnety_160, resnest50d.\n\n" in text
    assert "\n\nNot compiled for v4: efficientnet-b0.\n\n" in text
    assert text.splitlines()[-1].startswith(
        "`python -m benchmarks.tpu.headline`, 2026-"
    )


def test_of_many_missing_networks_the_count_is_enough():
    missing = [f"v4: {number}, {form}" for number in range(11) for form in "ab"]
    text = headline.generations({**REPORT, "not_compiled": {}, "missing": missing})
    assert "\n\nNot compiled for v4: 11 networks.\n\n" in text


def test_nothing_is_missing_of_a_whole_report():
    text = headline.generations({**REPORT, "not_compiled": {}, "missing": []})
    assert "Not compiled" not in text


def test_readme_shows_more_than_v3():
    text = headline.speedups(REPORT)
    assert cells(text)[2:] == [
        ["EfficientNet-B0 (77.1) : X-B0 (77.3)", "1.60", "2.20"],
        ["EfficientNet-B3 (81.6) : X-TPU-B3 (none published)", "1.50", "-"],
        ["EfficientNetV2-B0 (78.7) : X-B0 (77.3)", "1.20", "0.800"],
        ["EfficientNetV2-B3 (82.1) : X-B3 (81.4)", "0.500", "-"],
    ]
    assert "Here the most is 1.60 on v3 (X-B0) and 2.20 on v6e (X-B0)." in text
    assert "it is the faster one in 1 of 2 on v3 and 1 of 1 on v6e." in text


def test_no_word_of_what_is_not_known():
    text = headline.speedups({**REPORT, "pairs": []})
    assert "The paper says" not in text
    assert "faster one" not in text


def test_the_lines_of_a_panel():
    lines = {one.name: one for one in headline.families(REPORT, "v3")}
    assert list(lines) == [
        *("EfficientNet", "X", "X-TPU", "EfficientNetV2"),
        *("RegNetY, plain", "RegNetY, 300 epochs"),
    ]
    points = {
        name: [(p.label, p.milliseconds, p.top1, p.assumed) for p in line.points]
        for name, line in lines.items()
    }
    # Each network once, the fastest first.
    assert points["X"] == [("B0", 10.0, 77.3, False), ("B3", 40.0, 81.4, False)]
    assert points["X-TPU"] == [("B3", 38.0, 81.4, True)]  # at that of X-B3
    assert points["RegNetY, plain"] == [("160", 66.8, 80.4, False)]
    assert (lines["RegNetY, plain"].style, lines["X"].style) == (":", "-")
    on_v6e = {one.name for one in headline.families(REPORT, "v6e")}
    assert on_v6e == {"EfficientNet", "X", "EfficientNetV2"}


def test_draws_by_day_and_at_night(tmp_path):
    from PIL import Image

    headline.draw(REPORT, tmp_path)
    corners = []
    for name in headline.PICTURE.files:
        with Image.open(tmp_path / name) as picture:
            assert 2 * picture.height > picture.width >= 1200
            corners.append(picture.convert("RGB").getpixel((0, 0)))
        data = (tmp_path / name).read_bytes()
        assert files.is_our_png(data, headline.PICTURE.mark(REPORT))
    assert corners == [(255, 255, 255), (13, 17, 23)]


def test_a_generation_without_an_estimate_can_be_drawn(tmp_path):
    times = {name: {"v3": None, "v6e": None} for name in ("theirs_ms", "ours_ms")}
    empty = [{**one, **times} for one in REPORT["pairs"]]
    headline.draw({**REPORT, "pairs": empty}, tmp_path)
    assert (tmp_path / "headline.png").stat().st_size > 10_000
