"""A SavedModel of weights alone."""

import json

import pytest

from tests.support.golden import DATA
from train import classify, export

PHOTOS = DATA / "input_pipeline"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--best"], "--best, --statistics_images, --gin_file and --gin_param go with"),
        (["--statistics_images=9"], "and --gin_param go with --model_dir"),
        (["--max_loss=2"], "are of other forms than the SavedModel: name some by"),
        (["--score_images=9"], "are of other forms than the SavedModel: name some by"),
        (["--gin_param=a.b = 1"], "--gin_file and --gin_param go with --model_dir"),
        (["--variant=efficientnet-b0"], "are those of the variant efficientnet-lite0"),
    ],
)
def test_flags_of_a_run(flags, said, tmp_path, capsys):
    path = tmp_path / "export"
    assert (
        export.main(["--pretrained=efficientnet-lite0", f"--export_dir={path}", *flags])
        == 2
    )
    assert said in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.slow
def test_an_export_of_weights_by_name(tmp_path, monkeypatch, capsys):
    """Into a folder of the same name, which is no input of it."""
    monkeypatch.chdir(tmp_path)
    name = "efficientnet-lite0"
    photos = ["--check_images", str(PHOTOS / "cat.jpg"), str(PHOTOS / "coffee.jpg")]
    flags = [f"--pretrained={name}", f"--export_dir={name}", *photos]
    for _ in range(2):  # the second replaces the first
        assert export.main(flags) == 0
        report = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert report["images_compared"] == 2
        assert report["largest_logit_difference"] < 1e-3
        assert report["checkpoint"] == "pretrained efficientnet-lite0"
    names = (tmp_path / name / "assets.extra/labels.txt").read_text().splitlines()
    assert (len(names), names[967]) == (1000, "espresso")
    coffee = str(PHOTOS / "coffee.jpg")
    assert classify.main([f"--export_dir={name}", "--top_k=2", coffee]) == 0
    first, _ = capsys.readouterr().out.removeprefix(f"{coffee}: ").split(", ")
    assert first.startswith("espresso (9")
