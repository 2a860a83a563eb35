"""The flags; what it prints comes from a run of digits."""

import shutil

import pytest

from tests.support.runs import bindings
from train.mistakes import __main__ as command
from train.mistakes import page


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "arguments are required: --model_dir"),
        (("--model_dir=/",), "--model_dir is /; name the folder of a run"),
        (("--model_dir=x", "--images=0"), "argument --images: "),
        (("--model_dir=x", "--images=201"), "choose 1 to 200, not 201"),
        (("--model_dir=x", "--output=x.png"), "x.png is no .html; name it so"),
        (("--model_dir=x", "--best", "--step=4"), "not allowed with argument --best"),
    ],
)
def test_mistakes_of_flags(flags, said, capsys):
    try:
        status = command.main(flags)
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert said in capsys.readouterr().err


def test_somebodys_page_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "mine.html").write_text("mine")
    assert (
        command.main([f"--model_dir={tmp_path}", f"--output={tmp_path}/mine.html"]) == 2
    )
    assert "mine.html exists, and is not what this command" in capsys.readouterr().err
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_lines():
    found = [
        {"class": "cat", "predicted": "dog", "images": 1200},
        *[{"class": f"c{n}", "predicted": "d", "images": 1} for n in range(11)],
    ]
    lines = list(command._lines({"confusions": found, "wrong": 1211}))
    assert lines[:3] == [
        "class  taken for  images",
        "cat    dog         1,200",
        "c0     d               1",
    ]
    assert lines[-1] == "... and 2 more mistakes"
    assert list(command._lines({"confusions": [], "wrong": 0})) == [
        "nothing is taken for anything else"
    ]


@pytest.mark.slow
def test_a_page_on_demand(digits, finished, tmp_path, capsys):
    """Of a run without one, as one of an earlier version; where it may not write."""
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    (run / "mistakes.html").unlink()
    flags = [f"--model_dir={run}/best", "--images=5", f"--output={tmp_path}/p.html"]
    flags += [f"--gin_param={one}" for one in bindings(digits, {})]
    assert command.main(flags) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines()[1].endswith(f": {tmp_path}/p.html")
    first = finished[1]["mistakes"]["confusions"][0]
    row = printed.out.splitlines()[1].split()
    assert row == [first["class"], first["predicted"], str(first["images"])]
    data = (tmp_path / "p.html").read_bytes()
    assert page.is_ours(data)
    assert data.count(b"<figure>") == 5
    assert not (run / "mistakes.html").exists()
