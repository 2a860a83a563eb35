from common.console import WIDTH, escaped, say, warn, wrap


def test_a_name_moves_no_cursor_and_ends_no_line(capsys):
    name = "a\r\n\t\x1b[2J\x00\x7f\x85\u2028\xe9\u202e\u2066\udce9"
    shown = r"a\r\n\t\x1b[2J\x00\x7f\x85\u2028" + "\xe9" + r"\u202e\u2066\xe9"
    assert escaped(name) == shown
    warn(f"{name} stays")
    say("two lines\n\tof a table\x1b[1m")
    assert capsys.readouterr().err == (
        f"warning: {shown} stays\ntwo lines\n\tof a table\\x1b[1m\n"
    )


def test_no_name_is_broken_at_its_hyphens():
    first = "x" * (WIDTH - 10)
    assert wrap(f"{first} efficientnet-x-b0") == f"{first}\n  efficientnet-x-b0"
