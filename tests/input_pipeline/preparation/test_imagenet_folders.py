"""ImageNet that was extracted: the records are those of its tar files."""

import pathlib

import pytest

from input_pipeline import prepare
from input_pipeline.errors import DataError
from input_pipeline.preparation import imagenet_folders
from tests.input_pipeline.images import digests, write_files
from tests.input_pipeline.preparation.test_imagenet import (
    SYNSETS,
    TRUTH,
    WORDS,
    downloads,
    run,
    tar_of,
)

__all__ = ["downloads"]  # the fixture
LINES = [
    f"ILSVRC2012_val_{i:08d},{synset} 0 0 9 9" for i, synset in enumerate(TRUTH, 1)
]


def extract(downloads, root: pathlib.Path, *, sorted_by_class: bool = False) -> str:
    """Extract the tar files, and write what Kaggle hands out beside them."""
    import io
    import tarfile

    with tarfile.open(downloads["train"]) as outer:
        for member in outer.getmembers():
            content = outer.extractfile(member)
            assert content is not None
            with tarfile.open(fileobj=io.BytesIO(content.read())) as inner:
                inner.extractall(root / "train" / member.name[:-4], filter="data")
    with tarfile.open(downloads["validation"]) as tar:
        for member in tar.getmembers():
            content = tar.extractfile(member)
            assert content is not None
            synset = TRUTH[int(member.name[-13:-5]) - 1]
            below = f"val/{synset}/" if sorted_by_class else "val/"
            write_files(root, {f"{below}{member.name}": content.read()})
    return str(root)


def solution(folder: pathlib.Path) -> None:
    text = "\n".join(["ImageId,PredictionString", *LINES])
    names = "".join(f"{one} {WORDS.get(one, 'cup')}\n" for one in SYNSETS)
    files = {"LOC_val_solution.csv": text, "LOC_synset_mapping.txt": names}
    write_files(folder, {name: text.encode() for name, text in files.items()})


def plain(folder: pathlib.Path) -> dict[str, str]:
    found = digests(folder)
    del found["prepare_plan.json"]  # has the images' places in the tar files
    return found


@pytest.mark.parametrize("sorted_by_class", [False, True])
@pytest.mark.parametrize("below", ["ILSVRC/Data/CLS-LOC", ""])
def test_the_records_are_those_of_the_tar_files(
    downloads, tmp_path, capsys, below, sorted_by_class
):
    assert run(downloads, tmp_path / "tars") == 0
    kaggle = tmp_path / "kaggle"
    inner = kaggle / "ILSVRC" / "Data" / "CLS-LOC"
    extract(downloads, inner, sorted_by_class=sorted_by_class)
    write_files(inner, {"test/ILSVRC2012_test_00000001.JPEG": b"x"})
    solution(kaggle)
    arguments = [f"--source={kaggle / below}", f"--output={tmp_path / 'folders'}"]
    more = ["--shards=4", "--validation_shards=2", "--workers=1"]
    capsys.readouterr()
    assert prepare.main(["imagenet", *arguments, *more]) == 0
    assert "note: left out 1 image in " in capsys.readouterr().err
    assert plain(tmp_path / "folders") == plain(tmp_path / "tars")


@pytest.mark.parametrize("labels", ["devkit", "synsets"])
def test_labels_of_the_challenge_do_as_well(downloads, tmp_path, labels):
    source = extract(downloads, tmp_path / "in")
    plan, _ = imagenet_folders.plan(source, labels=str(downloads[labels]))
    found = {
        item.filename: plan.classes[item.label].synset
        for item in plan.splits["validation"].items
    }
    assert found == {
        f"ILSVRC2012_val_{i:08d}.JPEG": synset for i, synset in enumerate(TRUTH, 1)
    }
    known = [WORDS.get(one, "cup") if labels == "devkit" else one for one in SYNSETS]
    assert [one.name for one in plan.classes] == known


@pytest.mark.parametrize("below", ["", "train"])
def test_the_training_folders_alone(downloads, tmp_path, below):
    extract(downloads, tmp_path / "in")
    for path in (tmp_path / "in" / "val").iterdir():
        path.unlink()
    plan, notes = imagenet_folders.plan(str(tmp_path / "in" / below), shards=1)
    assert {name: len(one.items) for name, one in plan.splits.items()} == {"train": 18}
    for item in plan.splits["train"].items:
        assert item.filename.startswith(plan.classes[item.label].synset)
        path = plan.splits["train"].source.describe(item)
        assert pathlib.Path(path).stat().st_size == item.size
    assert len(notes) == 2


def test_other_folders_are_named(downloads, tmp_path):
    root = tmp_path / "in"
    source = extract(downloads, root)

    def refusal(**options) -> str:
        with pytest.raises(DataError) as error:
            imagenet_folders.plan(source, **options)
        return str(error.value)

    assert "without labels: give the development kit by --labels, or put" in refusal()
    (tmp_path / "x").write_text("n01440764\n")
    said = refusal(labels=str(tmp_path / "x"))
    assert "holds 4 images, but --labels 1 labels" in said
    solution(root)
    table = root / "LOC_val_solution.csv"
    table.write_text(table.read_text().replace("n02105855", "n00000001"))
    assert "2 images of 1 class that train does not hold, for one n0" in refusal()
    write_files(root, {"train/n01440764/deep/x.JPEG": b"x"})
    assert "n01440764 holds further folders, deep: use the command ima" in refusal()
    write_files(root, {"train/n01440764_/x.JPEG": b"x"})
    assert "holds no folder train with one for each synset" in refusal()
    with pytest.raises(DataError, match="there is no folder"):
        imagenet_folders.plan(str(downloads["train"]))


def test_a_folder_and_a_number_that_contradict_each_other(downloads, tmp_path):
    source = extract(downloads, tmp_path / "in", sorted_by_class=True)
    val = tmp_path / "in" / "val"
    name = "ILSVRC2012_val_00000003.JPEG"
    (val / "n01440764" / name).rename(val / "n02105855" / name)
    with pytest.raises(DataError, match=r"has two labels \(n02105855 by its folder"):
        imagenet_folders.plan(source, labels=str(downloads["synsets"]))
    write_files(val, {"n00000007/x.JPEG": b"x"})
    with pytest.raises(DataError, match="holds n00000007, of which train has none"):
        imagenet_folders.plan(source)


def test_flags_that_contradict_each_other(capsys, tmp_path):
    output = f"--output={tmp_path}/out"
    for more, why in (
        (["--source=x", "--train_tar=y"], "not allowed with argument"),
        ([], "one of the arguments --train_tar --source is required"),
    ):
        with pytest.raises(SystemExit):
            prepare.main(["imagenet", output, *more])
        assert why in capsys.readouterr().err
    more = ["--source=x", "--validation_tar=y"]
    assert prepare.main(["imagenet", output, *more]) == 2
    assert "leave out --validation_tar" in capsys.readouterr().err
    (tmp_path / "in").mkdir()
    inside = [f"--source={tmp_path}/in", f"--output={tmp_path}/in/out"]
    assert prepare.main(["imagenet", *inside]) == 2
    assert "choose a folder outside" in capsys.readouterr().err


def test_a_tar_file_is_not_taken_for_folders(tmp_path, capsys):
    (tmp_path / "x.tar").write_bytes(tar_of({"n01440764/x.JPEG": b"x"}))
    arguments = [f"--source={tmp_path}/x.tar", f"--output={tmp_path}/out"]
    assert prepare.main(["imagenet", *arguments]) == 2
    assert "there is no folder" in capsys.readouterr().err
