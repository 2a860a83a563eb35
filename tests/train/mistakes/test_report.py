import json

import numpy as np
import pytest

from tests.train.mistakes.reports import FIVE, NAMES, image, make, outcomes_of, picture
from train.mistakes import drawings, report
from train.mistakes.outcomes import NOTHING, Outcomes


def test_summary():
    pictures = [picture(), picture(file=""), None]
    made = make(outcomes_of(*FIVE), pictures=pictures)
    summary = json.loads(json.dumps(made.summary("mistakes.html")))
    worst = summary.pop("worst")
    assert summary == {
        "page": "mistakes.html",
        "images": 5,
        "right": 2,
        "wrong": 3,
        "classes": [
            {
                "class": "circle",
                "images": 3,
                "right": 1,
                "accuracy": 1 / 3,
                "precision": 1.0,
            },
            {
                "class": "square",
                "images": 2,
                "right": 1,
                "accuracy": 0.5,
                "precision": 1 / 3,
            },
            {
                "class": "triangle",
                "images": 0,
                "right": 0,
                "accuracy": None,
                "precision": 0.0,
            },
        ],
        "confusions": [
            {"class": "circle", "predicted": "square", "images": 2},
            {"class": "square", "predicted": "triangle", "images": 1},
        ],
        "confusion_matrix": {
            "labels": NAMES,
            "predicted": NAMES,
            "counts": [[1, 2, 0], [0, 1, 1], [0, 0, 0]],
        },
    }
    assert [(one["class"], one["predicted"]) for one in worst] == [
        ("circle", "square"),
        ("circle", "square"),
        ("square", "triangle"),
    ]
    assert worst[0] == {
        "record": "validation-00000-of-00001, record 4",
        "file": "circle/1.jpg",
        "class": "circle",
        "predicted": "square",
        "top": [
            {"class": "square", "probability": 0.875},
            {"class": "circle", "probability": 0.125},
        ],
    }
    assert [(one["record"] is None, one["file"]) for one in worst[1:]] == [
        (False, None),
        (True, None),
    ]


@pytest.mark.parametrize(
    ("images", "names", "said"),
    [
        (
            FIVE,
            NAMES,
            "3 of 5 wrong, most often circle taken for square (2): run/mistakes.html",
        ),
        (FIVE[:1], NAMES, "none of 1 wrong: run/mistakes.html"),
        (FIVE, ["a\nb", "\u202ec", "d"], "a\\nb taken for \\u202ec (2)"),
        # The end of the names of classes comes before that of the network's outputs.
        (
            [image(0, 7, 0.5), image(0, 0, 0.5)],
            ["cat"],
            "1 of 2 wrong, most often cat taken for class 7 (1)",
        ),
        (FIVE, ["crane", "crane", "x"], "crane (class 0) taken for crane (class 1)"),
        ((), NAMES, "none of 0 wrong: run/mistakes.html"),
    ],
)
def test_line(images, names, said):
    made = make(outcomes_of(*images), names)
    line = made.line("run/mistakes.html")
    assert line.startswith("mistakes: ")
    assert said in line


def test_no_mistake_and_one_class():
    made = make(outcomes_of(image(0, 0, 1.0, second=0)), ["only"])
    summary = made.summary(None)
    assert (summary["wrong"], summary["confusions"], summary["worst"]) == (0, [], [])
    assert summary["confusion_matrix"]["counts"] == [[1]]
    assert drawings.sheet(made) is None
    assert drawings.matrix(made).ndim == 3


def test_what_no_class_of_the_data_is():
    """A column of its own, and a precision that nobody asks for."""
    lost = (0, False, [(NOTHING, 0.0), (NOTHING, 0.0)])
    made = make(outcomes_of(image(0, 5, 0.5), lost, image(0, 0, 0.5)), ["cat"])
    matrix = made.summary(None)["confusion_matrix"]
    assert matrix["labels"] == ["cat"]
    assert matrix["predicted"] == ["cat", "nothing: not a number", "class 5"]
    assert matrix["counts"] == [[1, 1, 1]]
    # The one that is no number is the least sure, and has no guesses.
    assert [len(one.guesses) for one in made.worst] == [2, 0]


def many(classes, images, wrong):
    """Outcomes where every `wrong`-th image is taken for the next class."""
    label = np.arange(images) % classes
    miss = np.arange(images) % wrong == 0
    predicted = np.where(miss, (label + 1) % classes, label)
    guesses = np.stack([predicted, label, (label + 2) % classes], 1)
    shares = np.full([images, 3], 0.3, np.float32)
    return Outcomes(np.arange(images), label, predicted, guesses, shares)


@pytest.mark.parametrize("classes", [21, 1000, 21_841])
def test_a_summary_is_bounded(classes):
    made = make(many(classes, 50_000, 11), [f"class {n}" for n in range(classes)])
    summary = made.summary("mistakes.html")
    assert summary["wrong"] == -(-50_000 // 11) == made.wrong
    assert len(summary["classes"]) == min(classes, report.MOST_CLASSES)
    assert len(summary["confusions"]) == min(classes, report.MOST_CONFUSIONS)
    assert summary["confusion_matrix"] is None
    assert len(json.dumps(summary)) < 200_000
    assert len(made.matrix_classes()) == report.MATRIX_CLASSES


def test_of_too_many_classes_the_worst_are_kept_in_order():
    outcomes = many(1500, 15_000, 7)
    names = [f"class {n}" for n in range(1500)]
    made = make(outcomes, names)
    shown = [one.name for one in made.shown_classes()]
    assert shown == sorted(shown)
    least = min(one.accuracy or 0 for one in made.classes if one.name not in set(shown))
    assert max(one.accuracy or 0 for one in made.shown_classes()) <= least


def test_pictures_of_it():
    """The cells have their places; a name that cannot be drawn is a number."""
    made = make(
        outcomes_of(*FIVE),
        ["circle", "\u0645\u0631", "triangle"],
        pictures=[picture()] * 3,
    )
    drawn = drawings.matrix(made)
    begin, cell = 24 + 190, 44
    corner = [
        [drawn[begin + 44 * y + 4, begin + cell * x + 4].tolist() for x in range(3)]
        for y in range(2)
    ]
    white = [255, 255, 255]
    assert [[one == white for one in line] for line in corner] == [
        [False, False, True],
        [True, False, False],
    ]
    green, orange = corner[0][0], corner[0][1]
    assert green[1] > green[0]
    assert orange[0] > orange[1]
    assert drawings._drawable("cr\u00eape", 4) == "cr\u00eape"
    assert drawings._drawable("\u0645\u0631", 4) == "class 4"
    sheet = drawings.sheet(made)
    assert sheet is not None
    assert (sheet == 200).all(-1).sum() > 3 * 2 * 100 * 100


def test_text_for_tensorboard():
    made = make(outcomes_of(*FIVE), ["a|b", "<c>", "d"])
    assert drawings.text(made).splitlines() == [
        "| class | images | right | accuracy | precision | taken for most |",
        "|---|---|---|---|---|---|",
        "| a\\|b | 3 | 1 | 33.3% | 100.0% | \\<c\\> \\(2\\) |",
        "| \\<c\\> | 2 | 1 | 50.0% | 33.3% | d \\(1\\) |",
    ]
