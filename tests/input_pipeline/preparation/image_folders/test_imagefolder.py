import os

import pytest
import tensorflow as tf

from input_pipeline import dataset_info, prepare
from input_pipeline.errors import DataError
from input_pipeline.preparation import dataset_writer
from input_pipeline.preparation.image_folders import imagefolder
from input_pipeline.preparation.plan import Item
from tests.input_pipeline.images import digests, encoded, stored, write_files


def run(*arguments) -> int:
    all_to_learn = ["imagefolder", "--validation_fraction=0", "--workers=1"]
    return prepare.main([*all_to_learn, *map(str, arguments)])


def counts(source, **options) -> dict[str, int]:
    plan, _ = imagefolder.plan(str(source), **options)
    return {name: len(split.items) for name, split in plan.splits.items()}


@pytest.fixture
def flat(tmp_path):
    """Two classes of 20 JPEGs each, straight in the folder."""
    files = {
        f"{name}/{i:02d}.jpg": encoded(100 * place + i)
        for place, name in enumerate("ab")
        for i in range(20)
    }
    return write_files(tmp_path / "flat", files)


def test_every_image_is_stored_under_its_class(tmp_path, capsys):
    files = {
        "train/dog/x.jpg": encoded(1),
        "train/dog/deep/er/x.JPEG": encoded(2),
        "train/cat/x.png": encoded(3, "PNG"),
        "train/cat/no_suffix": encoded(4, "BMP"),
        "train/cat/wrong.png": encoded(5),
        "train/Übermaß/猫 'a'\n.webp": encoded(6, "WEBP"),
        "val/dog/x.jpg": encoded(7, mode="CMYK"),
        "test/cat/x.gif": encoded(8, "GIF"),
        # What people's folders hold besides.
        "train/.DS_Store": b"x",
        "train/dog/.hidden.jpg": b"x",
        "train/dog/Thumbs.db": b"x",
        "train/cat/notes.txt": b"BM is no bitmap",
        "train/README": b"x",
    }
    source = write_files(tmp_path / "pets", files)
    output = tmp_path / "out"
    assert run("--source", source, "--output", output) == 0
    assert capsys.readouterr().out == (
        f"wrote {output}: 6 train records, 1 validation records, 1 test records in "
        "1 + 1 + 1 files; skipped 2 other files, 3 hidden or system files\n"
        "train: 3 classes of 1 to 3 images, median 2; fewest: Übermaß 1, dog 2, cat 3\n"
        "validation: 1 of 3 classes (none of cat, Übermaß), each of 1 image\n"
        "test: 1 of 3 classes (none of dog, Übermaß), each of 1 image\n"
    )
    info = dataset_info.load_info(str(output))
    assert info.name == "pets"
    assert info.label_names == ("cat", "dog", "Übermaß")
    assert info.label_offset == 1
    train = stored(output, "train")
    assert {name: fields[:2] for name, fields in train.items()} == {
        "train/dog/x.jpg": (2, "dog"),
        "train/dog/deep/er/x.JPEG": (2, "dog"),
        "train/cat/x.png": (1, "cat"),
        "train/cat/no_suffix": (1, "cat"),
        "train/cat/wrong.png": (1, "cat"),
        "train/Übermaß/猫 'a'\n.webp": (3, "Übermaß"),
    }
    for name in ("train/dog/x.jpg", "train/dog/deep/er/x.JPEG", "train/cat/wrong.png"):
        assert train[name][2] == files[name]
    others = [*train.values(), *stored(output, "validation").values()]
    for _, _, image in [*others, *stored(output, "test").values()]:
        assert tf.io.decode_jpeg(image).shape == (16, 20, 3)


def test_a_name_that_is_not_utf8(tmp_path):
    source = tmp_path / "in"
    (source / "a").mkdir(parents=True)
    try:
        with open(os.fsencode(source / "a") + b"/\xff.jpg", "wb") as file:
            file.write(encoded(1))
    except OSError:
        pytest.skip("the file system allows UTF-8 alone")
    arguments = ("--source", source, "--output", tmp_path / "out")
    for _ in range(2):
        assert run(*arguments, "--allow_one_class") == 0
    assert list(stored(tmp_path / "out", "train")) == ["a/\\xff.jpg"]


def test_images_are_shuffled_and_dealt_out_evenly(flat, tmp_path):
    plan, _ = imagefolder.plan(str(flat), shards=3)
    names = [item.filename for item in plan.splits["train"].items]
    assert names != sorted(names)
    assert sorted(names) == [f"{n}/{i:02d}.jpg" for n in "ab" for i in range(20)]
    assert [len(file.items) for file in plan.files()] == [13, 13, 14]
    for file in plan.files():
        assert {item.label for item in file.items} == {0, 1}


def test_the_default_number_of_files():
    def shards(images: int, size: int) -> int:
        return imagefolder.default_shards([Item("", 0, 0, size)] * images)

    assert shards(1, 100) == shards(31, 100) == 1
    assert shards(32, 100) == 2
    assert shards(5000, 30_000) == 16
    assert shards(1_281_167, 112_000) == 913  # ImageNet: 157 MB each


def test_a_fraction_of_each_class_is_held_out(flat, tmp_path):
    assert counts(flat) == {"train": 40}
    plan, _ = imagefolder.plan(str(flat), validation_fraction=0.25)
    train, held = (plan.splits[name].items for name in ("train", "validation"))
    assert [sum(i.label == label for i in held) for label in (0, 1)] == [5, 5]
    assert len({item.filename for item in [*train, *held]}) == 40
    again, _ = imagefolder.plan(str(flat), validation_fraction=0.25)
    assert again.splits["validation"].items == held
    one_each = write_files(tmp_path / "one", {"a/x.jpg": b"x", "b/x.jpg": b"x"})
    with pytest.raises(DataError, match="each class has one image, which stays for"):
        counts(one_each, validation_fraction=0.9)
    assert counts(flat, validation_fraction=0.01) == {"train": 38, "validation": 2}
    with pytest.raises(DataError, match="choose 0 up to below 1"):
        counts(flat, validation_fraction=1.0)
    split = {"train/a/x.jpg": b"x", "train/b/x.jpg": b"x", "val/a/x.jpg": b"x"}
    with pytest.raises(DataError, match="a validation folder already"):
        counts(write_files(tmp_path / "s", split), validation_fraction=0.1)


def test_by_default_a_fifth_is_held_out_of_training_images_alone(tmp_path):
    sizes = {"a": 1, "b": 2, "c": 3, "d": 10}
    files = {f"{n}/{n}{i}.jpg": b"x" for n, k in sizes.items() for i in range(k)}
    source = write_files(tmp_path / "flat", files)
    plan, findings = imagefolder.plan(str(source), validation_fraction=None)
    held = [item.label for item in plan.splits["validation"].items]
    assert [held.count(label) for label in range(4)] == [0, 1, 1, 2]
    assert len(plan.splits["train"].items) == 16 - 4
    assert findings.notes == [
        "no folder of images to validate on: 20% of each class are held out, one at "
        "least (--validation_fraction=F for another share, 0 for none)"
    ]
    given = imagefolder.plan(str(source), validation_fraction=0.2)[0].splits
    assert given["validation"].items == plan.splits["validation"].items
    assert counts(source, validation_fraction=0) == {"train": 16}

    ones = {"a/x.jpg": b"x", "b/x.jpg": b"yy"}
    one_each = write_files(tmp_path / "one", ones)
    plan, findings = imagefolder.plan(str(one_each), validation_fraction=None)
    assert list(plan.splits) == ["train"]
    assert "each class has one image, which is learnt from" in findings.notes[0]
    for beside in "test", "val":
        split = {
            f"{name}/{one}": b for name in ("train", beside) for one, b in ones.items()
        }
        split["train/a/y.jpg"] = b"zzz"
        there = write_files(tmp_path / beside, split)
        found = counts(there, validation_fraction=None)
        assert list(found.values()) == [3, 2]


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*/none: name one"):
        counts(tmp_path / "none")
    file = write_files(tmp_path, {"x.zip": b"x"}) / "x.zip"
    with pytest.raises(DataError, match=r"x.zip is a file, and no tar file: name a "):
        counts(file)
    with pytest.raises(DataError, match=r"from a disk: copy gs://b/x to one first"):
        counts("gs://b/x")


def test_links_are_followed_but_not_in_circles(tmp_path, flat):
    (flat / "a" / "round").symlink_to(flat)
    (flat / "c").symlink_to(write_files(tmp_path / "far", {"x.jpg": b"x"}))
    plan, _ = imagefolder.plan(str(flat))
    names = [item.filename for item in plan.splits["train"].items]
    assert len(plan.classes) == 3
    assert "c/x.jpg" in names
    assert len(names) == 41
    (flat / "b" / "dead.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"cannot read .*dead.jpg, a link perhaps: No s"
    ):
        counts(flat)


def test_a_file_that_cannot_be_read_is_named_and_never_skipped(flat, tmp_path):
    plan, _ = imagefolder.plan(str(flat))
    (flat / "a" / "00.jpg").unlink()
    with pytest.raises(DataError, match=f"^cannot read {flat}/a/00.jpg: No such file"):
        dataset_writer.write(
            plan, str(tmp_path / "out"), workers=1, skip_bad_images=True
        )


def test_a_folder_that_cannot_be_read_is_named(flat, monkeypatch):
    def scandir(path):
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    real = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=f"cannot read the folder {flat}/b: Permission"):
        counts(flat)


def test_bad_images_stop_the_work_or_are_skipped(flat, tmp_path, capsys):
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    write_files(flat, {"a/bad.jpg": b"a text", "b/new.heic": heic})
    output = tmp_path / "out"
    arguments = ("--source", flat, "--output", output, "--shards", 4)
    assert run(*arguments) == 2
    stopped = capsys.readouterr().err
    assert stopped.startswith(f"error: {flat}/")
    assert "JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM" in stopped
    assert "start again with --on_bad_image skip" in stopped
    assert stopped.count("\n") == 1
    assert not (output / dataset_info.INFO_FILENAME).exists()
    # The very command that the error names goes on from there.
    assert run(*arguments, "--on_bad_image", "skip") == 0
    skipped = capsys.readouterr()
    lines = sorted(skipped.err.splitlines())
    assert lines[0].startswith(f"skipped: {flat}/a/bad.jpg is not a whole image")
    assert lines[1].startswith(f"skipped: {flat}/b/new.heic is a HEIC, none of JPEG, ")
    assert len(lines) == 2
    assert "40 train records" in skipped.out
    assert "; skipped 2 images\n" in skipped.out
    assert skipped.out.endswith("train: 2 classes, each of 20 images\n")
    before = digests(output)
    assert run(*arguments, "--on_bad_image", "skip") == 0
    again = capsys.readouterr()
    assert sorted(again.err.splitlines()) == lines
    assert again.out == (
        f"{output} holds the whole dataset already: nothing to do; skipped 2 images\n"
        "train: 2 classes, each of 20 images\n"
    )
    assert run(*arguments) == 2  # they are errors again
    assert digests(output) == before


def test_a_file_of_bad_images_alone_is_an_error(tmp_path, capsys):
    bad = {f"a/{i}.jpg": b"" for i in range(3)}
    source = write_files(tmp_path / "in", bad)
    output = tmp_path / "out"
    arguments = ("--source", source, "--output", output, "--on_bad_image", "skip")
    assert run(*arguments, "--allow_one_class") == 2
    assert "none of the 3 images for" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["prepare_plan.json"]


def test_many_skipped_images_are_counted(tmp_path, capsys):
    files = {f"a/{i}.jpg": b"" for i in range(25)} | {"a/good.jpg": encoded(1)}
    source = write_files(tmp_path / "in", files)
    arguments = ("--source", source, "--output", tmp_path / "out", "--shards", 1)
    assert run(*arguments, "--on_bad_image", "skip", "--allow_one_class") == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "skipped: 5 more images"


def test_a_file_that_is_too_large_is_not_read(flat, tmp_path, capsys):
    """It is sparse: 300 GB that take no room."""
    with open(flat / "a" / "00.jpg", "wb") as file:
        file.truncate(300 << 30)
    plan, _ = imagefolder.plan(str(flat))
    assert plan.splits["train"].shards == 2
    arguments = ("--source", flat, "--output", tmp_path / "out")
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"error: {flat}/a/00.jpg has 322,122,547,200 bytes, too many for an image: "
        "start again with --on_bad_image skip"
    )
    assert said.count("\n") == 1
    assert run(*arguments, "--on_bad_image", "skip") == 0
    assert "train: 2 classes of 19 to 20 images, median 19.5" in capsys.readouterr().out


def test_names_that_move_a_cursor_are_written_out(tmp_path, capsys):
    names = ("\x1b[31mred", "BACKGROUND_Google", "dog\nwrote\u202e")
    files = {f"{name}/{i}.jpg": encoded(i) for i, name in enumerate(names)}
    write_files(tmp_path / "in", files | {f"{names[0]}/9.jpg": encoded(9)})
    output = tmp_path / "o\x1b[2J"
    assert run("--source", tmp_path / "in", "--output", output) == 0
    said = capsys.readouterr()
    assert said.out == (
        f"wrote {tmp_path}/o\\x1b[2J: 4 train records in 1 files\n"
        "train: 3 classes of 1 to 2 images, median 1; fewest: BACKGROUND_Google 1, "
        "dog\\nwrote\\u202e 1, \\x1b[31mred 2\n"
    )
    assert said.err == (
        "note: BACKGROUND_Google is a class like any other: move it elsewhere if it "
        "holds what belongs to none\n"
    )


def test_one_class_and_layouts_are_flags(tmp_path, capsys):
    write_files(tmp_path / "in", {f"test/{i}.jpg": encoded(i) for i in range(2)})
    arguments = ("--source", tmp_path / "in", "--output", tmp_path / "out")
    assert run(*arguments) == 2
    assert "choose --layout=classes" in capsys.readouterr().err
    assert run(*arguments, "--layout=classes") == 2
    assert "give --allow_one_class" in capsys.readouterr().err
    assert run(*arguments, "--layout=classes", "--allow_one_class") == 0
    assert "\ntrain: 1 class, each of 2 images\n" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["", "out", "dog/out"])
def test_an_output_in_the_source_is_refused(tmp_path, capsys, output):
    (tmp_path / "dog").mkdir()
    arguments = ["--source", str(tmp_path), "--output", str(tmp_path / output)]
    assert prepare.main(["imagefolder", *arguments]) == 2
    assert "would be taken for a class: choose a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["dog"]
