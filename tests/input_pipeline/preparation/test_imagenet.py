import gzip
import io
import os
import pathlib
import re
import tarfile

import numpy as np
import pytest
import scipy.io
import tensorflow as tf

from input_pipeline import dataset_info, prepare
from input_pipeline.errors import DataError
from input_pipeline.preparation import imagenet
from input_pipeline.preparation.jpeg import BadImageError
from input_pipeline.preparation.plan import Item
from tests.input_pipeline.images import encoded, stored

SYNSETS = ("n01440764", "n02105855", "n07930864")
WORDS = {"n01440764": "tench, Tinca tinca", "n02105855": "Shetland sheepdog"}
# The challenge's own numbers are in another order than the synsets.
NUMBERS = {"n07930864": 1, "n01440764": 2, "n02105855": 3}
TRUTH = ["n02105855", "n07930864", "n01440764", "n02105855"]


def tar_of(files: dict[str, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return output.getvalue()


def meta_mat() -> bytes:
    """In the structure of the devkit's: low synsets first, then those above them."""
    kinds = [
        ("ILSVRC2012_ID", object),
        ("WNID", object),
        ("words", object),
        ("gloss", object),
        ("num_children", object),
        ("children", object),
        ("wordnet_height", object),
        ("num_train_images", object),
    ]
    rows = [
        (float(number), synset, WORDS.get(synset, "cup"), "a gloss", 0.0, [], 0.0, 2.0)
        for synset, number in NUMBERS.items()
    ]
    rows.append((4.0, "n00001740", "entity", "all", 3.0, [1.0, 2.0, 3.0], 9.0, 0.0))
    output = io.BytesIO()
    scipy.io.savemat(output, {"synsets": np.array(rows, kinds).reshape(-1, 1)})
    return output.getvalue()


def devkit(truth: list[int]) -> bytes:
    root = "ILSVRC2012_devkit_t12"
    lines = "".join(f"{number}\n" for number in truth).encode()
    files = {
        f"{root}/readme.txt": b"",
        f"{root}/data/meta.mat": meta_mat(),
        f"{root}/data/ILSVRC2012_validation_ground_truth.txt": lines,
    }
    return gzip.compress(tar_of(files))


@pytest.fixture
def downloads(tmp_path) -> dict[str, pathlib.Path]:
    """The four files, tiny; with a PNG and a CMYK JPEG as the real ones have."""
    inner = {
        f"{synset}.tar": tar_of(
            {f"{synset}_{i}.JPEG": encoded(10 * place + i) for i in range(4)}
            | {f"{synset}_2933.JPEG": encoded(place, "PNG")}
            | {f"{synset}_13.JPEG": encoded(place, mode="CMYK")}
        )
        # Not in the order of the names.
        for place, synset in reversed(list(enumerate(SYNSETS)))
    }
    validation = {
        f"ILSVRC2012_val_{i:08d}.JPEG": encoded(100 + i) for i in (3, 1, 4, 2)
    }
    files = {
        "train": tar_of(inner),
        "validation": tar_of(validation),
        "devkit": devkit([NUMBERS[synset] for synset in TRUTH]),
        "synsets": "".join(f"{synset}\n" for synset in TRUTH).encode(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in files}


def run(downloads, output, labels: str = "devkit", *more) -> int:
    arguments = ["--train_tar", downloads["train"], "--labels", downloads[labels]]
    arguments += ["--validation_tar", downloads["validation"], "--output", output]
    arguments += ["--shards", 4, "--validation_shards", 2, "--workers", 1, *more]
    return prepare.main(["imagenet", *map(str, arguments)])


def test_labels_are_places_of_sorted_synsets(downloads, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(downloads, output) == 0
    said = capsys.readouterr()
    assert said.out == (
        f"wrote {output}: 18 train records, 4 validation records in 4 + 2 files\n"
        "train: 3 classes, each of 6 images\n"
        "validation: 3 classes of 1 to 2 images, median 1; fewest: "
        "tench, Tinca tinca 1, cup 1, Shetland sheepdog 2\n"
    )
    assert said.err.splitlines() == [
        "note: train: 18, where the whole ImageNet has 1,281,167",
        "note: validation: 4, where the whole ImageNet has 50,000",
        "note: classes: 3, where the whole ImageNet has 1,000",
    ]
    info = dataset_info.load_info(str(output))
    assert info.name == "imagenet"
    assert info.label_offset == 1
    assert info.label_names == ("tench, Tinca tinca", "Shetland sheepdog", "cup")
    train = stored(output, "train")
    assert len(train) == 18
    for place, synset in enumerate(SYNSETS):
        for i in range(4):
            label, text, image = train[f"{synset}_{i}.JPEG"]
            assert label == 1 + place
            assert text == info.label_names[place]
            assert image == encoded(10 * place + i)
        for i in (13, 2933):  # the CMYK JPEG and the PNG
            _, _, image = train[f"{synset}_{i}.JPEG"]
            assert image[:3] == b"\xff\xd8\xff"
            assert tf.io.decode_jpeg(image).shape == (16, 20, 3)
    validation = stored(output, "validation")
    for i, synset in enumerate(TRUTH, start=1):
        label, _, image = validation[f"ILSVRC2012_val_{i:08d}.JPEG"]
        assert label == 1 + SYNSETS.index(synset)
        assert image == encoded(100 + i)


def test_a_list_of_synsets_does_as_well(downloads, tmp_path):
    for labels in ("devkit", "synsets"):
        assert run(downloads, tmp_path / "out" / labels, labels) == 0
    by_devkit, by_text = (
        {name: (one[0], one[2]) for name, one in stored(folder, "validation").items()}
        for folder in (tmp_path / "out" / "devkit", tmp_path / "out" / "synsets")
    )
    assert by_devkit == by_text
    assert (
        dataset_info.load_info(str(tmp_path / "out" / "synsets")).label_names == SYNSETS
    )


def test_the_training_images_alone(downloads):
    plan, notes = imagenet.plan(str(downloads["train"]))
    assert list(plan.splits) == ["train"]
    assert plan.splits["train"].shards == 1024
    assert len(notes) == 2


@pytest.mark.parametrize(
    ("spoiled", "change", "fault"),
    [
        (
            "train",
            lambda b: b[: len(b) // 2],
            "is damaged, cut off, or no uncompressed",
        ),
        ("train", gzip.compress, "is damaged, cut off, or no uncompressed tar file"),
        (
            "train",
            lambda b: b[:512] + b"x" * 512 + b[1024:],
            "n07930864.tar in .*is dam",
        ),
        ("train", lambda b: b"", "is damaged, cut off"),
        ("train", lambda b: tar_of({}), "is empty: download it again"),
        (
            "train",
            lambda b: tar_of({"n01440764.tar": tar_of({})}),
            "tar in .* is empty",
        ),
        ("train", lambda b: tar_of({"x.JPEG": b"x"}), "holds x.JPEG, where it should"),
        ("validation", lambda b: b[:-20000], "validation is damaged, cut off"),
        ("validation", lambda b: tar_of({"x": b"x"}), "holds 1 images, but --labels 4"),
        ("devkit", lambda b: b[: len(b) // 2], "is not a whole ILSVRC2012_devkit"),
        (
            "devkit",
            lambda b: gzip.compress(tar_of({"x": b"x"})),
            r"with data/meta.mat .*KeyErr",
        ),
        ("devkit", lambda b: b"<html>", "is neither ILSVRC2012_devkit_t12.tar.gz nor"),
        ("devkit", lambda b: devkit([9] * 4), r"not a whole .*\(KeyError\)"),
        (
            "devkit",
            lambda b: devkit([4] * 4),
            "1 classes that --train_tar does not hold",
        ),
    ],
)
def test_other_files_are_named(downloads, tmp_path, capsys, spoiled, change, fault):
    path = downloads[spoiled]
    path.write_bytes(change(path.read_bytes()))
    output = tmp_path / "out"
    assert run(downloads, output) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(path) in said or "--labels" in said
    assert re.search(fault, said), said
    assert not output.exists()


def test_files_that_are_not_there(downloads, capsys):
    with pytest.raises(DataError, match="cannot read none: No such file"):
        imagenet.plan("none")
    arguments = ["--train_tar", str(downloads["train"]), "--output", "none"]
    labels = ["--labels", str(downloads["devkit"])]
    assert prepare.main(["imagenet", *arguments, *labels]) == 2
    assert "--validation_tar and --labels go together" in capsys.readouterr().err


def test_a_damaged_header_is_not_taken_for_the_end(downloads):
    whole = downloads["validation"].read_bytes()
    # The header of the third of four members: tarfile alone would find two.
    with tarfile.open(downloads["validation"]) as tar:
        place = tar.getmembers()[2].offset
    downloads["validation"].write_bytes(
        whole[:place] + b"\x01" * 512 + whole[place + 512 :]
    )
    with pytest.raises(DataError, match="is damaged, cut off"):
        imagenet.plan(
            str(downloads["train"]),
            validation_tar=str(downloads["validation"]),
            labels=str(downloads["devkit"]),
        )


def validation_labels(downloads, members: dict[str, bytes], labels: str = "synsets"):
    """Return the synset of each validation image of a tar file of these members."""
    downloads["validation"].write_bytes(tar_of(members))
    plan, _ = imagenet.plan(
        str(downloads["train"]),
        validation_tar=str(downloads["validation"]),
        labels=str(downloads[labels]),
        shards=1,
        validation_shards=1,
    )
    return {
        item.filename: plan.classes[item.label].synset
        for item in plan.splits["validation"].items
    }


NAMES = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 5)]
LABELLED = dict(zip(NAMES, TRUTH, strict=True))


@pytest.mark.parametrize(
    "member",
    [
        "{name}",
        "./{name}",
        "val/{name}",
        "val/{synset}/{name}",
        "./ILSVRC2012_img_val/{synset}/{name}",
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_validation_images_are_labelled_by_their_numbers(downloads, member, order):
    members = {
        member.format(name=name, synset=synset): b"x"
        for name, synset in list(LABELLED.items())[::order]
    }
    members |= {"._x": b"", "val/.DS_Store": b"", "__MACOSX/x.JPEG": b""}
    assert validation_labels(downloads, members) == LABELLED


def test_a_synset_behind_the_number(downloads):
    """As in the copies of some hubs."""
    members = {
        f"{name.removesuffix('.JPEG')}_{synset}.JPEG": b"x"
        for name, synset in LABELLED.items()
    }
    found = validation_labels(downloads, members)
    assert found == {name: name[-14:-5] for name in members}


def test_validation_images_without_numbers_are_labelled_by_their_folders(downloads):
    members = {f"val/{one}/{i}.JPEG": b"x" for i, one in enumerate(TRUTH)}
    found = validation_labels(downloads, members)
    assert found == {f"{i}.JPEG": one for i, one in enumerate(TRUTH)}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {NAMES[2]: "val/n02105855/" + NAMES[2]},
            "ILSVRC2012_val_00000003.JPEG in .* has two labels "
            r"\(n02105855 by its folder, n01440764 by --labels\): which of them is r",
        ),
        (
            {NAMES[2]: "ILSVRC2012_val_00000003_n02105855.JPEG"},
            r"has two labels \(n02105855 by its name, n01440764 by --labels\)",
        ),
        ({NAMES[0]: "x.JPEG"}, "x.JPEG, which tells no label: neither a number"),
        ({NAMES[0]: "n00000001/x.JPEG"}, "which tells no label: neither a number"),
        ({NAMES[0]: "ILSVRC2012_val_00000005.JPEG"}, "but --labels has 4 lines"),
        ({NAMES[0]: "ILSVRC2012_val_00000000.JPEG"}, "but --labels has 4 lines"),
        ({NAMES[0]: "a/" + NAMES[1]}, "holds ILSVRC2012_val_00000002.JPEG twice, in"),
    ],
)
def test_validation_images_with_no_label_or_two(downloads, change, fault):
    members = {change.get(name, name): b"x" for name in NAMES}
    with pytest.raises(DataError, match=fault):
        validation_labels(downloads, members)


@pytest.mark.parametrize(
    ("train", "fault"),
    [
        (
            [("a/n01440764.tar", ["x.JPEG"]), ("b/n01440764.tar", ["y.JPEG"])],
            "two tar files of n01440764, a/n01440764.tar and b/n01440764.tar: remove o",
        ),
        (
            [("n01440764.tar", ["x.JPEG"]), ("n01440764.tar", ["x.JPEG"])],
            "two tar files of n01440764, n01440764.tar and n01440764.tar: remove one",
        ),
        (
            [("n01440764.tar", ["x.JPEG"]), ("n02105855.tar", ["y.JPEG", "x.JPEG"])],
            "holds x.JPEG twice, in n01440764 and n02105855: download it again",
        ),
        (
            [("n01440764.tar", ["x.JPEG", "a/x.JPEG"])],
            "holds x.JPEG twice, in n01440764: download it again",
        ),
        (
            [("train/n01440764/x.JPEG", [])],
            "of folders is for imagefolder, its --source",
        ),
    ],
)
def test_what_would_replace_something_else_is_refused(tmp_path, train, fault):
    (tmp_path / "train").write_bytes(
        tar_of_pairs(
            (name, tar_of(dict.fromkeys(images, b"x"))) for name, images in train
        )
    )
    with pytest.raises(DataError, match=fault):
        imagenet.plan(str(tmp_path / "train"))


def tar_of_pairs(files) -> bytes:
    """Unlike a dict, pairs may hold a name twice."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return output.getvalue()


def test_what_systems_add_to_tar_files_is_no_image(tmp_path):
    inner = {"./._a.JPEG": b"", "./a.JPEG": b"x", ".DS_Store": b"", "d/@eaDir/a": b""}
    outer = {"./._n01440764.tar": b"", "./n01440764.tar": tar_of(inner)}
    (tmp_path / "train").write_bytes(tar_of(outer))
    plan, _ = imagenet.plan(str(tmp_path / "train"), shards=1)
    assert [item.filename for item in plan.splits["train"].items] == ["a.JPEG"]


def test_links_in_tar_files_are_no_images(downloads):
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name in NAMES:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "elsewhere"
            tar.addfile(member)
    downloads["validation"].write_bytes(output.getvalue())
    with pytest.raises(
        DataError, match=r"00000001.JPEG in .* is a link, or no plain f"
    ):
        imagenet.plan(
            str(downloads["train"]),
            validation_tar=str(downloads["validation"]),
            labels=str(downloads["synsets"]),
        )


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "train.tar")
    with pytest.raises(DataError, match="is a named pipe, no file: name the"):
        imagenet.plan(str(tmp_path / "train.tar"))


def test_an_image_of_a_tar_file_that_is_too_large_is_not_read():
    item = Item("x.JPEG", 0, 0, 300 << 30)
    with pytest.raises(BadImageError, match="has 322,122,547,200 bytes, too many"):
        imagenet.Tar("none").load(item)


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode() + b"\r\n\r\n",
    ],
)
def test_labels_that_an_editor_has_written(downloads, encode):
    text = downloads["synsets"].read_text()
    downloads["synsets"].write_bytes(encode(text))
    assert validation_labels(downloads, dict.fromkeys(NAMES, b"x")) == LABELLED
