"""What the benchmark of architecture searches takes from a package, and says."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import nas
from benchmarks.support import cifar10
from common.errors import UserError
from search.stages import children
from tests.support import toy_nas
from tests.support.commands import status


@pytest.fixture
def package(tmp_path):
    """Three images a split, of which the first is red at its top."""
    folder = tmp_path / "package"
    folder.mkdir()
    pixels = np.zeros((3, 32 * 32, 3), np.uint8)
    pixels[0, :32] = 255, 0, 0
    for mosaic, labels in cifar10._SPLITS.values():
        Image.fromarray(pixels).save(folder / mosaic)
        (folder / labels).write_text("[6, 9, 9]" if "test" in labels else "[6,9,9,4]")
    return folder


def test_images_of_the_package(package, tmp_path):
    cifar10.write(package, tmp_path / "images")
    found = sorted((tmp_path / "images").rglob("*.png"))
    assert [str(one.relative_to(tmp_path / "images")) for one in found] == [
        f"{split}/{name}"
        for split in ("train", "validation")
        for name in ("frog/00000.png", "truck/00001.png", "truck/00002.png")
    ]
    red = np.asarray(Image.open(found[0]))
    assert red.shape == (32, 32, 3)
    assert (red[0] == (255, 0, 0)).all()
    assert not red[1:].any()
    classes = {one.name for one in (tmp_path / "images/train").iterdir()}
    assert classes == {*cifar10.CLASSES}


def test_another_package_is_refused(package, tmp_path, capsys):
    flags = [f"--cifar10={tmp_path}", f"--work={tmp_path / 'work'}"]
    assert status(nas.main, *flags) == 2
    assert "holds no data_batch_1.png: name the folder" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
    Image.new("RGB", (1024, 2)).save(package / "test_batch.png")
    (package / "test_lables.json").write_text("[1]")
    with pytest.raises(UserError, match="has 1024 x 2 pixels and 1 labels"):
        cifar10.write(package, tmp_path / "images")


def test_row_of_a_search(tmp_path, monkeypatch):
    """Of the stages that a search really leaves; its commands are arithmetic."""
    from search import nas as command

    (tmp_path / "toy.gin").write_text(toy_nas.CONFIG)
    monkeypatch.setattr(children, "run", toy_nas.Commands().run)
    folder = tmp_path / "search"
    flags = [f"--gin_file={tmp_path / 'toy.gin'}", f"--search_dir={folder}"]
    assert status(command.main, *flags, "--noreport") == 0
    stages = nas._stages(folder)
    table = {"blocks": 3, "wall_seconds": 60.0}
    row = nas.row({**stages, "table": table})
    assert json.loads(json.dumps(row)) == row
    assert row["minutes_to_found"] == pytest.approx(1.0, abs=0.1)
    assert row["random_networks"] == 10
    assert row["minutes_of_steps"] == {"supernet": 1.67, "random": 1.67}
    final = stages["final"]["rows"]
    assert {name: len(top1) for name, top1 in row["top1"].items()} == {
        "found": 2,
        "random": 2,
        "baseline": 2,
    }
    assert row["top1"]["found"] == [
        round(one["top1"], 2) for one in final if one["name"] == "found"
    ]
    ms = row["milliseconds"]
    assert ms["exact"]["found"] == pytest.approx(1.1 * ms["searched by"]["found"], 1e-3)
    assert row["ranked"] == 8
