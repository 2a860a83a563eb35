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
