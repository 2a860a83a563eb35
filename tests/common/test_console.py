from common.console import WIDTH, wrap


def test_no_name_is_broken_at_its_hyphens():
    first = "x" * (WIDTH - 10)
    assert wrap(f"{first} efficientnet-x-b0") == f"{first}\n  efficientnet-x-b0"
