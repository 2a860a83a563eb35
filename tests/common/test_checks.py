import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from common import checks
from common.errors import UserError, one_line


@pytest.mark.parametrize("value", [(0.1, 0.5), [0.5, 0.5], (0.08, 1)])
def test_a_smallest_and_a_largest_number(value):
    checks.require("a.b", {"area": value}, {"area": checks.SHARES})


@pytest.mark.parametrize(
    "value",
    [
        (0.5, 0.1),
        (0, 1),
        (1e-300, 1),
        (0.1, 2),
        (0.1,),
        0.5,
        ("0", "1"),
        (True, True),
        None,
    ],
)
def test_what_is_no_smallest_and_largest_number(value):
    with pytest.raises(UserError) as error:
        checks.require("a.b", {"area": value}, {"area": checks.SHARES})
    assert str(error.value) == (
        f"a.b.area = {value!r}: it has to be the smallest and the largest of two "
        "numbers from 0.000001 to 1"
    )


def test_nearest_names_whatever_their_case():
    names = ["ShearX", "ShearY", "Rotate"]
    assert checks.nearest_names("shearz", names) == ["ShearX", "ShearY"]
    assert checks.nearest_names("ROTATE", names) == ["Rotate"]


def test_an_error_of_several_lines_is_one():
    assert one_line(ValueError("HTTP 403:\n  no access\n")) == "HTTP 403: no access"
    assert one_line(ValueError()) == "ValueError"


@dataclasses.dataclass(frozen=True)
class Box:
    side: Any
    ratio: Any = 0.5

    rules: ClassVar = {"side": checks.whole(1, 300), "ratio": checks.FRACTION}

    def __post_init__(self):
        checks.require_fields(self)


@checks.rules(side=checks.whole(1, 300), ratio=checks.FRACTION)
def box(side: Any, ratio: Any = 0.5, *rest: Any):
    return side, ratio, *rest


def test_numbers_of_numpy_s_become_python_s():
    made = Box(np.int64(3), np.float32(0.25))
    assert (made, type(made.side), type(made.ratio)) == (Box(3, 0.25), int, float)
    assert box(np.uint8(3), np.float32(0.25), np.int64(9)) == (3, 0.25, 9)
    assert [type(value) for value in box(np.uint8(3), ratio=np.float64(1))] == [
        int,
        float,
    ]
    with pytest.raises(UserError, match=r"test_checks\.Box\.side = 301: "):
        Box(np.int64(301))
    nested = {np.str_("a"): [np.bool_(True), (np.array([1, 2]), Path("b"))], "c": None}
    assert checks.plain(nested) == {"a": [True, ([1, 2], "b")], "c": None}


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("side", "224", "; write 224"),
        ("side", " 0xe0 ", "; write 224"),
        ("side", 224.0, "; write 224"),
        ("side", 224.5, ""),
        ("side", "301", ""),
        ("side", "(" * 9_999, ""),
        ("side", "{[1]: 1}", ""),
        ("ratio", 25, "; 25 % is 0.25"),
        ("ratio", 12.5, "; 12.5 % is 0.125"),
        ("ratio", 101, ""),
        ("ratio", -25, ""),
        ("ratio", "0.5", "; write 0.5"),
    ],
)
def test_what_may_be_meant(field, value, hint):
    line = checks.broken("a", value, Box.rules[field])
    assert line.partition(Box.rules[field].what)[2] == hint
