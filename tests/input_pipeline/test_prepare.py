import collections
import contextlib
import errno
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from common.claims import disk
from input_pipeline import dataset_info, prepare, records
from input_pipeline.errors import DataError
from input_pipeline.preparation import commands, mnist
from input_pipeline.preparation.plan import Item
from tests.input_pipeline.images import digests, encoded, write_files
from tests.support.folders import content
from tests.support.processes import heed_interrupts

ROOT = pathlib.Path(prepare.__file__).parents[1]


CLASSES = (
    "train: 10 classes, each of 400 images\nvalidation: 10 classes, each of 100 images"
)


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "input_pipeline.prepare", *map(str, arguments)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[pathlib.Path, str]:
    """A prepared folder and what the command said."""
    output = tmp_path_factory.mktemp("digits") / "mnist"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert prepare.main(["mnist", "--output", str(output)]) == 0
    return output, said.getvalue()


def test_the_command_says_what_it_wrote(prepared):
    output, said = prepared
    assert said == (
        f"wrote {output}: 4000 train records, 1000 validation records in 8 + 2 files\n"
        f"{CLASSES}\n"
    )
    names = [f"train-{i:05d}-of-00008" for i in range(8)]
    names += [f"validation-{i:05d}-of-00002" for i in range(2)]
    names += ["dataset_info.json", "prepare_plan.json"]
    assert sorted(digests(output)) == sorted(names)


@pytest.mark.long
def test_the_splits_are_stratified_and_share_no_digit(prepared):
    output, _ = prepared
    info = dataset_info.load_info(str(output))
    images = []
    for split, per_class in [("train", 400), ("validation", 100)]:
        paths = [records.shard_path(str(output), s) for s in info.split(split).shards]
        found = tf.data.TFRecordDataset(paths).map(records.parse)
        parsed = list(found.as_numpy_iterator())
        labels = collections.Counter(int(x["label"]) for x in parsed)
        assert labels == dict.fromkeys(range(1, 11), per_class)
        images += [x["encoded"] for x in parsed]
    assert len(set(images)) == 5000
    assert info.label_names == tuple("0123456789")
    assert info.label_offset == 1


def test_the_digits_survive_the_jpeg():
    images, _ = mnist.digits()["validation"]
    source = mnist.Digits(images)
    for index, image in enumerate(images[:50]):
        result = source.load(Item("", 0, index, 0))
        decoded = tf.io.decode_jpeg(result.encoded).numpy().astype(int)
        assert decoded.shape == (result.height, result.width, 3) == (28, 28, 3)
        assert np.abs(decoded - image[:, :, None]).max() < 30


@pytest.mark.long
def test_a_second_run_is_identical_and_a_third_does_nothing(prepared, tmp_path):
    output, _ = prepared
    assert commands.prepare_mnist(str(tmp_path)).startswith(f"wrote {tmp_path}: 4000")
    assert digests(tmp_path) == digests(output)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert commands.prepare_mnist(str(tmp_path)) == (
        f"{tmp_path} holds the whole dataset already: nothing to do\n{CLASSES}"
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.long
def test_names_that_a_person_has_mended_stay(prepared, tmp_path, capsys):
    output = tmp_path / "copy"
    shutil.copytree(prepared[0], output)
    path = output / dataset_info.INFO_FILENAME
    path.write_text(path.read_text().replace('"0", "1"', '"zero", "one"'))
    before = content(output)
    assert prepare.main(["mnist", f"--output={output}"]) == 2
    assert capsys.readouterr() == (
        "",
        f"error: {path} says something else than the data do (label_names: 'zero' -> "
        "'0', 'one' -> '1'): keep it as it is, or overwrite it with --overwrite_info\n",
    )
    assert content(output) == before
    assert prepare.main(["mnist", f"--output={output}", "--overwrite_info"]) == 0
    assert capsys.readouterr().out == (
        f"wrote {output}: 4000 train records, 1000 validation records in 8 + 2 files, "
        f"of which 10 were there already\n{CLASSES}\n"
    )
    assert digests(output) == digests(prepared[0])


@pytest.mark.long
def test_records_that_a_person_has_cleaned_stay(prepared, tmp_path, capsys):
    output = tmp_path / "copy"
    shutil.copytree(prepared[0], output)
    path = output / "validation-00001-of-00002"
    found = [*map(bytes, tf.data.TFRecordDataset(str(path)).as_numpy_iterator())]
    records.write_shard(str(path), found[:9] + found[10:])
    before = content(output)
    for flag in ([], ["--overwrite_info"]):
        assert prepare.main(["mnist", f"--output={output}", *flag]) == 2
        assert capsys.readouterr() == (
            "",
            f"error: {path} is there, and is not what is to be written there: move it "
            "away, or choose another folder\n",
        )
        assert content(output) == before


def test_a_second_run_on_a_disk_that_is_read_only(prepared, capsys, monkeypatch):
    output, _ = prepared
    before = content(output)

    def refuse(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), f"{output}/.claim.json")

    monkeypatch.setattr(disk, "_open", refuse)
    assert prepare.main(["mnist", f"--output={output}"]) == 0
    said = f"{output} holds the whole dataset already: nothing to do\n{CLASSES}\n"
    assert capsys.readouterr() == (said, "")
    assert content(output) == before


def test_another_dataset_is_not_overwritten(prepared):
    output, _ = prepared
    with pytest.raises(
        DataError, match=r"files: 8 train \+ 2 validation there, 4 train \+ 1 valid"
    ):
        commands.prepare_mnist(str(output), train_shards=4)


def test_user_errors_are_one_line_and_exit_status_2(tmp_path, capsys, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    output = tmp_path / "out"

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    assert prepare.main(["mnist", "--output", str(file)]) == 2
    assert prepare.main(["mnist", "--output", str(file / "below")]) == 2
    assert prepare.main(["mnist", "--output", str(output), "--shards", "4001"]) == 2
    monkeypatch.setattr(commands, "prepare_mnist", interrupt)
    assert prepare.main(["mnist", "--output", str(output)]) == 130
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0] == f"error: {file} is a file: choose a folder for --output"
    assert lines[1].startswith(f"error: cannot make the folder {file}/below: ")
    assert lines[2].startswith("error: cannot write 4000 train images in 4001 files: ")
    assert lines[3] == "interrupted: the same command goes on from here"
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["mnist", "--shards=0"], "argument --shards: 0 is not 1 or more"),
        (
            ["imagefolder", "--source=x", "--validation_fraction=1"],
            "'1' is not a number, 0 or more and below 1",
        ),
        (["tfrecords", "--source=x", "--workers=none"], "none is not a whole number"),
        (["everything"], "invalid choice: 'everything'"),
        (["tfrecords", "--source="], "--source: it is empty: name a file or folder"),
    ],
)
def test_flags_that_mean_nothing(capsys, flags, line):
    with pytest.raises(SystemExit) as ended:
        prepare.main([*flags, *["--output=x"] * (flags[0] != "tfrecords")])
    assert ended.value.code == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("", "it is empty: name a file or folder"),
        (
            "~/x",
            "~/x would be a folder named ~, for HOME names no home folder: set it, or "
            "write ./~/x if you mean it",
        ),
    ],
)
@pytest.mark.parametrize("command", ["mnist", "imagefolder", "imagenet"])
def test_no_folder_at_all(command, output, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "")
    with pytest.raises(SystemExit) as ended:
        prepare.main([command, f"--output={output}"])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"error: argument --output: {said}")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("images", "lies in --source images, where it would be taken for a class: "
         "choose a folder outside"),
        ("images/out", "lies in --source images, where it would be taken for a class: "
         "choose a folder outside"),
        ("linked/out", "lies in --source images, where it would be taken for a class: "
         "choose a folder outside"),
        (".", "holds --source images, and who deletes the one would lose the other: "
         "choose a folder beside"),
    ],
)  # fmt: skip
def test_images_and_records_lie_apart(output, why, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "images", {"a/0.jpg": b"", "b/0.jpg": b""})
    (tmp_path / "linked").symlink_to("images")
    before = content(tmp_path)
    assert prepare.main(["imagefolder", "--source=images", f"--output={output}"]) == 2
    assert capsys.readouterr() == ("", f"error: --output {output} {why}\n")
    assert content(tmp_path) == before


@pytest.mark.slow
def test_an_error_on_the_command_line(tmp_path):
    result = subprocess.run(
        command("imagefolder", "--source", tmp_path / "no", "--output", tmp_path),
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"error: there is no folder {tmp_path}/no: name one with --source\n"
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Enough PNGs for some seconds of work in two processes."""
    content = encoded(0, "PNG", size=(500, 700))
    files = {f"{i % 3}/{i}.png": content for i in range(360)}
    return write_files(tmp_path_factory.mktemp("photos"), files)


def start(photos, output, workers: int) -> subprocess.Popen:
    arguments = ["--source", photos, "--output", output, "--workers", workers]
    return subprocess.Popen(
        command("imagefolder", *arguments, "--shards", 24),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=heed_interrupts,
    )  # fmt: skip


def wait_for_files(process: subprocess.Popen, output: pathlib.Path, count: int) -> None:
    """Waits until so many are written, while the process lives."""
    while len([*output.glob("train-*-of-00024")]) < count:
        assert process.poll() is None
        time.sleep(0.02)


def group_is_gone(process: subprocess.Popen) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for_end(process: subprocess.Popen) -> None:
    """Waits until no process of its group is left."""
    deadline = time.monotonic() + 600
    while not group_is_gone(process):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_kills_and_the_number_of_processes_do_not_change_a_byte(photos, tmp_path):
    undisturbed = tmp_path / "undisturbed"
    alone = start(photos, undisturbed, workers=1)
    said, _ = alone.communicate()
    assert alone.returncode == 0
    assert said == (
        f"wrote {undisturbed}: 360 train records in 24 files\n"
        "train: 3 classes, each of 120 images\n"
    )

    output = tmp_path / "killed"
    killed = start(photos, output, workers=3)
    wait_for_files(killed, output, 3)
    killed.kill()
    killed.communicate()
    wait_for_end(killed)  # the workers do not live on
    written = len([*output.glob("train-*-of-00024")])
    assert not (output / dataset_info.INFO_FILENAME).exists()

    interrupted = start(photos, output, workers=2)
    wait_for_files(interrupted, output, written + 1)
    os.killpg(interrupted.pid, signal.SIGINT)  # as Ctrl-C does
    _, errors = interrupted.communicate()
    assert interrupted.returncode == 130
    last_line = errors.splitlines()[-1]  # after lines of progress, on a slow machine
    assert last_line == "interrupted: the same command goes on from here"
    assert "Traceback" not in errors
    wait_for_end(interrupted)
    assert not [*output.glob("*.part-*")]

    last = start(photos, output, workers=3)
    said, _ = last.communicate()
    assert last.returncode == 0
    assert "360 train records in 24 files, of which " in said
    assert digests(output) == digests(undisturbed)


@pytest.mark.slow
def test_an_error_in_a_process_ends_them_all(photos, tmp_path):
    folder = tmp_path / "in" / "a"
    folder.mkdir(parents=True)
    for number, path in enumerate(sorted(photos.glob("*/*.png"))[:100]):
        (folder / f"{number}.png").symlink_to(path)
    (folder / "bad.png").write_bytes(b"")
    write_files(folder.parent, {"b/0.png": encoded(0, "PNG")})
    process = start(folder.parent, tmp_path / "out", workers=2)
    _, errors = process.communicate()
    assert process.returncode == 2
    last_line = errors.splitlines()[-1]
    assert last_line.startswith(f"error: {folder}/bad.png is empty: start again with")
    assert "Traceback" not in errors
    wait_for_end(process)
    assert not [*(tmp_path / "out").glob("*.part-*")]
