"""What a run removes of the files that processes before it have left aside."""

import os

import pytest

from tests.support.folders import content
from train import run_folder

HEX = "0123456789abcdef" * 2
WRITTEN = (
    "operative_config.gin",
    "summary.json",
    "data.json",
    "metrics.jsonl",
    "eval.jsonl",
    "hosts/host-12.json",
    "best/scores-ckpt-12.json",
    "evaluations/ckpt-12-validation-32px-float32-0123456789ab.json",
)


def old(path):
    path.parent.mkdir(exist_ok=True)
    path.write_text("half a file")
    os.utime(path, (0, 0))


def test_files_of_a_run_go(tmp_path):
    for name in WRITTEN:
        old(tmp_path / f"{name}.part-{HEX}")
    staging = tmp_path / "best" / f".staging-{HEX}"
    staging.mkdir()
    (staging / "ckpt-12.json").touch()
    run_folder.remove_staged(str(tmp_path))
    run_folder.remove_stale_files(str(tmp_path))
    assert {path.name for path in tmp_path.rglob("*")} == {
        *("best", "hosts", "evaluations", staging.name, "ckpt-12.json"),
        f"eval.jsonl.part-{HEX}",
        f"scores-ckpt-12.json.part-{HEX}",
    }  # the best may be that of a continuous evaluation
    run_folder.remove_staged_best(str(tmp_path))
    assert {path.name for path in tmp_path.rglob("*")} == {
        *("best", "hosts", "evaluations")
    }


@pytest.mark.parametrize("folder", [".", "hosts", "best"])
def test_others_stay(tmp_path, folder, capsys):
    (tmp_path / "theirs").mkdir()
    old(tmp_path / "theirs" / "thesis.tex")
    for name in ("thesis.tex", "host-x.json", "scores.json", "ckpt-12.json"):
        old(tmp_path / folder / f"{name}.part-{HEX}")
    for name in WRITTEN:
        if os.path.dirname(name) == folder.strip("."):
            link = tmp_path / f"{name}.part-{HEX}"
            link.symlink_to("theirs")
    aside = tmp_path / "best" / f".aside-{HEX}"
    aside.parent.mkdir(exist_ok=True)
    aside.symlink_to("../theirs")
    before = content(tmp_path)
    run_folder.remove_staged(str(tmp_path))
    run_folder.remove_staged_best(str(tmp_path))
    run_folder.remove_stale_files(str(tmp_path))
    assert content(tmp_path) == before
    said = f"warning: {aside} stays: {aside} is a link; move it away\n"
    assert capsys.readouterr().err == said
