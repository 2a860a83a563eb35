"""The trainer's predictions as a table, and what they are compared with."""

import pytest

from common.errors import UserError
from train.exports import predictions
from train.exports.predictions import Prediction

A, B, C = "a" * 64, "b" * 64, "c" * 64


def test_a_table_holds_any_name():
    rows = [
        Prediction(name, 3, 5, A)
        for name in ("plain", 'a,"b"', "a\r\nb", "\r", "\x1b[31m", "", "é\x00", "' ")
    ]
    assert predictions.from_csv(predictions.to_csv(rows), "p") == rows


def test_an_older_table_has_no_digests():
    assert predictions.from_csv("filename,label,class_id\r\nx,1,2\r\n", "p") == [
        Prediction("x", 1, 2, "")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "hello",
        "a,b\n1,2\n",
        "filename,label,class_id\nx,y,z\n",
        "filename,label,class_id\nx\n",
        "filename,label,class_id\nx,1\n",
        "filename,label,class_id\nx,1,1.5\n",
        "filename,label,class_id\n" + "x" * 200_000 + ",1,2\n",
        'filename,label,class_id\n"x,1,2\n',
        "filename,label\nx,1\n",
        "filename,label,class_id\nx,1," + "9" * 5000 + "\n",
    ],
)
def test_what_is_no_table(text):
    with pytest.raises(UserError) as error:
        predictions.from_csv(text, "e/predictions.csv")
    assert str(error.value) == (
        "e/predictions.csv is not what train.export writes there; export again"
    )


def images(*found):
    """Predictions of images by name, label, class and digest."""
    return [Prediction(*one) for one in found]


@pytest.mark.parametrize(
    ("found", "expected", "known", "same"),
    [
        ([("x", 1, 2, A)], [("x", 1, 2, A)], 1, 1),
        ([("x", 1, 2, A)], [("x", 1, 3, A)], 1, 0),
        # Another picture of the same name, the same picture of another.
        ([("x", 1, 2, B)], [("x", 1, 3, A)], 0, 0),
        ([("y", 0, 2, A)], [("x", 1, 2, A)], 1, 1),
        # One picture twice, on either side.
        ([("x", 1, 2, A), ("y", 1, 2, A)], [("x", 1, 2, A)], 2, 2),
        ([("x", 1, 2, A)], [("x", 1, 2, A), ("y", 5, 2, A)], 1, 1),
        ([("x", None, 2, A), ("y", 1, 4, C)], [("x", 1, 2, A), ("y", 1, 5, C)], 2, 1),
        ([], [("x", 1, 2, A)], 0, 0),
        ([("x", 1, 2, A)], [], 0, 0),
        # Older exports: by name and label, where they are clear.
        ([("x", 1, 2, A)], [("x", 1, 3, "")], 1, 0),
        ([("x", 1, 2, A)], [("x", 1, 2, "")], 1, 1),
        ([("x", 4, 2, A)], [("x", 1, 3, "")], 0, 0),
        ([("x", None, 2, A)], [("x", 1, 3, "")], 0, 0),
        ([("x", 1, 2, A), ("x", 1, 4, B)], [("x", 1, 2, "")], 0, 0),
        ([("x", 1, 2, A)], [("x", 1, 2, ""), ("x", 1, 3, "")], 0, 0),
    ],
)
def test_what_is_compared(found, expected, known, same):
    agreed = predictions.agreement(images(*found), images(*expected))
    assert agreed == (known, same)
