import pytest

from input_pipeline.preparation.closing import class_lines

NAMES = ("cat", "dog", "emu", "gnu", "\x1bx")


@pytest.mark.parametrize(
    ("names", "counts", "line"),
    [
        (1, [1], "train: 1 class, each of 1 image"),
        (3, [400] * 3, "train: 3 classes, each of 400 images"),
        (
            2,
            [7, 1200],
            "train: 2 classes of 7 to 1,200 images, median 603.5; fewest: cat 7, "
            "dog 1,200",
        ),
        (
            5,
            [9, 2, 9, 2, 1],
            "train: 5 classes of 1 to 9 images, median 2; "
            "fewest: \\x1bx 1, dog 2, gnu 2; most: cat 9",
        ),
        (3, [4, 0, 4], "train: 2 of 3 classes (none of dog), each of 4 images"),
        (
            5,
            [0, 0, 5, 0, 0],
            "train: 1 of 5 classes (none of cat, dog, gnu and 1 more), "
            "each of 5 images",
        ),
        (2, [0, 0], "train: 0 of 2 classes (none of cat, dog)"),
        (
            2,
            [200_001, 400_000],
            "train: 2 classes of 200,001 to 400,000 images, median 300,000.5; fewest: "
            "cat 200,001, dog 400,000",
        ),
    ],
)
def test_a_line_tells_the_classes_of_a_split(names, counts, line):
    assert class_lines(NAMES[:names], {"train": counts})[0] == line


def test_each_split_has_a_line():
    counts = {"train": [2, 2], "validation": [1, 1]}
    assert class_lines(NAMES[:2], counts) == [
        "train: 2 classes, each of 2 images",
        "validation: 2 classes, each of 1 image",
    ]


@pytest.mark.parametrize(
    ("counts", "odd"),
    [
        ({"train": [2, 2, 0], "validation": [1, 1, 0]}, []),
        ({"train": [2, 2, 2], "validation": [1, 1, 0]}, []),
        (
            {"train": [2, 2, 0], "validation": [1, 1, 7]},
            [
                "validation has images of what train has none of (emu): no run can "
                "learn to tell them"
            ],
        ),
        (
            {"train": [2, 0, 0], "test": [0, 1, 7]},
            [
                "all images of train are of one class, cat: are the others missing?",
                "test has images of what train has none of (dog, emu): no run can "
                "learn to tell them",
            ],
        ),
        (
            {"train": [2, 2, 2], "validation": [0, 9, 0]},
            ["all images of validation are of one class, dog: are the others missing?"],
        ),
        ({"test": [2, 2, 0], "other": [0, 2, 2]}, []),
    ],
)
def test_what_scores_would_not_tell(counts, odd):
    assert class_lines(NAMES[:3], counts)[len(counts) :] == odd


def test_one_class_alone_is_asked_about_before():
    assert len(class_lines(["cat"], {"train": [2], "validation": [1]})) == 2
