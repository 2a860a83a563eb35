"""What the benchmark of transfer takes from the two packages, and what it says."""

import json
from pathlib import Path

import pytest

from benchmarks import transfer
from common.errors import UserError
from tests.support.commands import status


def test_stamps_are_found_at_any_depth(tmp_path):
    for number, name in enumerate(transfer._STAMP_CLASSES):
        folder = tmp_path / transfer._STAMPS / name / "deeper"
        folder.mkdir(parents=True)
        for one in range(number + 1):
            (folder / f"{one}.png").write_bytes(b"x")
        (folder / "notes.txt").write_bytes(b"x")
    found = transfer.stamps(tmp_path)
    assert {name: len(images) for name, images in found.items()} == {
        name.rpartition("/")[2]: number
        for number, name in enumerate(transfer._STAMP_CLASSES, start=1)
    }
    transfer.copy_images(found, tmp_path / "copied")
    names = [path.name for path in (tmp_path / "copied/birds").iterdir()]
    assert names == ["000-0.png"]


def test_emoji_of_six_categories_no_more_than_sixty(tmp_path):
    rows = [
        {"category": category, "image": f"{category[0]}{number}.png"}
        for category in (*transfer._EMOJI_CLASSES, "Flags")
        for number in range(70)
    ]
    (tmp_path / "img/twitter/64").mkdir(parents=True)
    for row in rows[:-1]:
        (tmp_path / "img/twitter/64" / row["image"]).write_bytes(b"x")
    (tmp_path / "emoji.json").write_text(json.dumps(rows))
    found = transfer.emoji(tmp_path)
    assert [*found] == [*transfer._EMOJI_CLASSES]
    assert {len(images) for images in found.values()} == {60}
    assert found == transfer.emoji(tmp_path)


@pytest.mark.parametrize("name", transfer.SETS)
def test_another_folder_is_refused(name, tmp_path, capsys):
    with pytest.raises(UserError, match="name the folder into which the package was"):
        transfer.SETS[name].find(tmp_path)
    assert status(transfer.main) == 2
    assert "name a set: --stamps=FOLDER" in capsys.readouterr().err


def test_what_there_is_to_say_of_all_seeds():
    runs = [
        {
            "top1": 0.8,
            "raw_top1": 0.9,
            "steps": 9,
            "minutes": 1.0,
            "cpu_seconds": 60.04,
        },
        {"top1": 0.7, "raw_top1": 0.6, "steps": 9, "minutes": 3.0, "cpu_seconds": 62.0},
    ]
    assert transfer._summary(runs) == {
        "top1": [0.8, 0.7],
        "mean_top1": 0.75,
        "raw_top1": [0.9, 0.6],
        "steps": 9,
        "minutes": [1.0, 3.0],
        "cpu_seconds": [60.0, 62.0],
    }


def test_a_run_that_was_measured_is_not_trained_again(tmp_path):
    run = {"top1": 0.8, "raw_top1": 0.9, "steps": 9}
    settings = ["experiment.Experiment.data_dir = 'data'", "x = 1"]
    measured = {"settings": settings, "run": run}
    (tmp_path / "measured.json").write_text(json.dumps(measured))
    assert transfer.train(Path("data"), tmp_path, ["x = 1"]) == run
    with pytest.raises(UserError, match="trained with other settings: delete it"):
        transfer.train(Path("data"), tmp_path, ["x = 2"])
