import argparse

import pytest

from common.cli import changes, names, number, positive


def test_positive():
    assert positive("1") == 1
    assert positive("2147483647") == 2**31 - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "0 is not 1 or more"),
        ("-3", "-3 is not 1 or more"),
        ("x", "x is not a whole number"),
        ("", " is not a whole number"),
        ("1.5", "1.5 is not a whole number"),
        ("2147483648", "2147483648 is more than 2,147,483,647"),
    ],
)
def test_what_is_not_positive(text, message):
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        positive(text)
    assert str(raised.value) == message


def test_names():
    assert names(" b, a,,b ,c") == ["b", "a", "c"]


@pytest.mark.parametrize("text", ["", " , ,"])
def test_no_name(text):
    with pytest.raises(argparse.ArgumentTypeError, match="no name given"):
        names(text)


def test_changes():
    text = "{3: {'kernel_size': 3, 'se_ratio': 0.5}, 1: {'activation': 'relu'}}"
    assert changes(text) == {
        3: {"kernel_size": 3, "se_ratio": 0.5},
        1: {"activation": "relu"},
    }
    assert changes("{2: {'fused': True}}") == {2: {"fused": True}}


@pytest.mark.parametrize(
    "text",
    [
        "3",
        "{3: 4}",
        "{3: {'fused': yes}}",
        "{3",
        "",
        "{[]: {}}",
        "(" * 999,
        "-" * 99999,
    ],
)
def test_what_changes_nothing(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not of the form"):
        changes(text)


@pytest.mark.parametrize(
    "value", ["[1]", "None", "65537", "-65537", "1e999", "1j", "{}"]
)
def test_what_no_field_can_be(value):
    with pytest.raises(argparse.ArgumentTypeError, match="is no name, True, False or"):
        changes(f"{{3: {{'se_ratio': {value}}}}}")


def test_a_number_below_another():
    read = number(least=0, below=1)
    assert (read("0"), read("0.5")) == (0, 0.5)
    for text in ("1", "-0.1", "nan", "x"):
        with pytest.raises(
            argparse.ArgumentTypeError, match="is not a number, 0 or more and below 1"
        ):
            read(text)
