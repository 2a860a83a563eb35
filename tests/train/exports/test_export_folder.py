"""Where an export goes: nothing that is not an export of ours is lost there."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest
import tensorflow as tf

from common import files, gfiles
from common.errors import UserError
from tests.support.commands import status
from tests.support.folders import content
from train import export
from train.exports import export_folder, export_target
from train.exports.export_folder import StaysAside

# What stands in for a SavedModel: its names, and little in them.
WRITTEN = (
    "saved_model.pb",
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
    "assets.extra/labels.txt",
    "assets.extra/predictions.csv",
    "assets.extra/check.json",
    "assets.extra/card.json",
    "assets.extra/tf_serving_warmup_requests",
    "model_int8.tflite",
    "model.onnx",
)
HEX = "0123456789abcdef" * 2
ELSEWHERE = "move it away or name another --export_dir"
REPLACED = f"and the whole folder would be replaced; {ELSEWHERE}"


def write(folder, text="new"):
    os.makedirs(f"{folder}/assets")
    for name in WRITTEN:
        path = Path(folder) / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(f"{text} {name}")


def exports(target, text="new"):
    with export_folder.writing(str(target), {}) as folder:
        write(folder, text)


@pytest.fixture
def target(tmp_path):
    """An export of ours."""
    exports(tmp_path / "e", "old")
    return tmp_path / "e"


def refusal(target, capsys, model_dir="runs/some"):
    """What the command says, in one line and before TensorFlow is asked for a run."""
    assert (
        status(export.main, f"--model_dir={model_dir}", f"--export_dir={target}") == 2
    )
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line.removeprefix("error: ")


def test_an_export_lists_what_it_has_written(target):
    listed = json.loads((target / export_target.LIST).read_text())
    assert list(listed) == sorted(WRITTEN)
    for name, digest in listed.items():
        assert hashlib.sha256((target / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("system", ["exchanges", "does not"])
def test_an_older_export_is_replaced(tmp_path, target, system, monkeypatch):
    if system == "does not":
        monkeypatch.setattr(files, "exchange", lambda *_: False)
    exports(target)
    assert (target / "saved_model.pb").read_text() == "new saved_model.pb"
    assert os.listdir(tmp_path) == ["e"]
    (target / "assets.extra" / "labels.txt").unlink()  # nothing is lost by mending it
    exports(target)
    assert (target / "assets.extra" / "labels.txt").exists()
    assert os.listdir(tmp_path) == ["e"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "e").mkdir()
    exports(tmp_path / "e")
    assert os.listdir(tmp_path) == ["e"]


def test_there_is_a_whole_export_at_any_time(target, monkeypatch):
    """What is looked at between any two calls of the system that change a name."""
    seen = []

    def watch(function):
        def call(*arguments):
            result = function(*arguments)
            seen.append((target / "variables" / "variables.index").read_text()[:3])
            return result

        return call

    if not files.exchange(str(target), str(target)):
        pytest.skip("this file system cannot exchange names")
    for module, name in [(files, "exchange"), (os, "unlink"), (os, "rename")]:
        monkeypatch.setattr(module, name, watch(getattr(module, name)))
    exports(target)
    assert seen == ["new"] * len(seen)
    assert len(seen) == 1 + len(WRITTEN) + 1  # and the list


def notes(folder):
    (folder / "NOTES.md").write_text("mine")
    return (
        f"{folder}/NOTES.md was not written here, and the whole folder would be "
        f"replaced; {ELSEWHERE}"
    )


def note_far_below(folder):
    (folder / "variables" / "old").mkdir()
    return (
        f"{folder}/variables/old/ was not written here, and the whole folder would be "
        f"replaced; {ELSEWHERE}"
    )


def mended_names(folder):
    (folder / "assets.extra" / "labels.txt").write_text("kitten\n")
    return (
        f"{folder}/assets.extra/labels.txt is not what the export has written there "
        f"(see assets.extra/files.json), {REPLACED}"
    )


def other_weights(folder):
    path = folder / "variables" / "variables.data-00001-of-00002"
    path.write_text("mine")
    return (
        f"{path} is not what the export has written there "
        f"(see assets.extra/files.json), {REPLACED}"
    )


def link_inside(folder):
    path = folder / "variables"
    path.rename(folder.parent / "weights")
    path.symlink_to("../weights")
    return f"{path} is a link, and the whole folder would be replaced; {ELSEWHERE}"


def pipe_inside(folder):
    os.mkfifo(folder / "pipe")
    return (
        f"{folder}/pipe is a named pipe, and the whole folder would be replaced; "
        f"{ELSEWHERE}"
    )


def no_list(folder):
    (folder / export_target.LIST).unlink()
    return (
        f"{folder} is not empty and has no assets.extra/files.json, by which an export "
        f"of this program is known (older ones have none), {REPLACED}"
    )


def with_list(text):
    def broken_list(folder):
        (folder / export_target.LIST).write_text(text)
        return (
            f"{folder}/assets.extra/card.json is not what the export has written "
            f"there (see assets.extra/files.json), {REPLACED}"
        )

    return broken_list


def foreign(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "saved_model.pb").write_text("somebody's")
    return (
        f"{folder} is not empty and has no assets.extra/files.json, by which an export "
        f"of this program is known (older ones have none), {REPLACED}"
    )


def file(folder):
    shutil.rmtree(folder)
    folder.write_text("mine")
    return f"{folder} is a file, no folder; {ELSEWHERE}"


def pipe(folder):
    shutil.rmtree(folder)
    os.mkfifo(folder)
    return f"{folder} is a named pipe, no folder; {ELSEWHERE}"


def linked(folder, target):
    folder.rename(folder.with_name("releases"))
    folder.symlink_to(target)
    new = f"e-{time.strftime('%Y%m%d')}"
    return (
        f"{folder} is a link, and an export never goes through a link: name a new "
        f"folder such as {folder.parent}/{new}, then point the link there: ln -sfn "
        f"{new} {folder}"
    )


def link(folder):
    return linked(folder, "releases")


def dangling_link(folder):
    return linked(folder, "nowhere")


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    "spoil",
    [
        notes,
        note_far_below,
        mended_names,
        other_weights,
        link_inside,
        pipe_inside,
        no_list,
        with_list("["),
        with_list('["saved_model.pb"]'),
        with_list("[" * 100_000),
        foreign,
        file,
        pipe,
        link,
        dangling_link,
    ],
)
def test_what_is_not_ours_is_not_replaced(tmp_path, target, spoil, slash, capsys):
    said = spoil(target)
    before = content(tmp_path)
    assert refusal(f"{target}{slash}", capsys) == said
    with pytest.raises(UserError) as refused:
        exports(target)
    assert str(refused.value) == said
    assert content(tmp_path) == before


@pytest.mark.parametrize("spoil", [notes, mended_names, link, file, foreign])
def test_what_comes_while_an_export_is_made_stays(tmp_path, target, spoil):
    expected = []

    def late():
        with export_folder.writing(str(target), {}) as folder:
            write(folder)
            expected.append(spoil(target))
            expected.append({k: v for k, v in content(tmp_path).items() if k != folder})

    with pytest.raises(UserError) as refused:
        late()
    said, before = expected
    assert str(refused.value) == said
    assert content(tmp_path) == {k: v for k, v in before.items() if ".part-" not in k}


@pytest.mark.parametrize("where", ["run", "run/", "linked", ".", "runs/.."])
def test_what_holds_the_run_is_not_replaced(tmp_path, where, capsys, monkeypatch):
    """Nor the run itself, by whatever name, even where it looks like an export."""
    exports(tmp_path / "all", "old")
    run = tmp_path / "all" / "run"
    exports(run)
    (run / "ckpt-12.index").write_text("weights")
    (tmp_path / "linked").symlink_to("all")
    before = content(tmp_path)
    monkeypatch.chdir(tmp_path / "all")
    (tmp_path / "all" / "runs").mkdir()
    before = content(tmp_path)
    if where in (".", "runs/.."):
        said = f"--export_dir {where}: name the folder itself"
        assert refusal(where, capsys, run) == said
    elif where == "linked":
        said = refusal(tmp_path / where / "run", capsys, run)
        assert said == (
            f"--export_dir {tmp_path}/linked/run is or contains the run ({run}), which "
            "an export never replaces; name another --export_dir"
        )
    else:
        for target in (tmp_path / "all", run):
            said = refusal(f"{target}/", capsys, where)
            assert said == (
                f"--export_dir {target} is or contains the run (run), which an export "
                "never replaces; name another --export_dir"
            )
    assert content(tmp_path) == before


@pytest.mark.parametrize("inside", ["", "/data", "/weights.safetensors"])
def test_what_an_export_is_made_of_is_not_replaced(tmp_path, target, inside):
    before = content(tmp_path)
    with pytest.raises(UserError, match=r"contains its data \(.*; name another --exp"):
        export_target.refuse(str(target), {"its data": f"{target}{inside}"})
    export_target.refuse(f"{target}/export", {"its data": str(target)})
    export_target.refuse(f"{target}", {"its data": f"{target}2", "other": None})
    assert content(tmp_path) == before


def test_inputs_in_buckets(target):
    contains = export_target._contains
    assert contains("gs://b/run", "gs://b/run")
    assert contains("gs://b/run", "gs://b/run/best/")
    assert not contains("gs://b/run/export", "gs://b/run")
    assert not contains("gs://b/run", "gs://b/run2")
    assert not contains("/", "gs://b/run2")


@pytest.mark.parametrize("flag", ["", " ", "served [2]"])
def test_no_folder_at_all(flag, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert status(export.main, "--model_dir=run", f"--export_dir={flag}") == 2
    assert "argument --export_dir: " in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_the_root_is_no_folder_for_an_export(capsys):
    assert refusal("//", capsys) == "--export_dir /: name the folder itself"


def test_no_run_at_all(tmp_path, capsys):
    said = "--model_dir is /; name the folder of a run"
    assert refusal(tmp_path / "e", capsys, "/") == said


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, None])
def test_what_is_named_like_a_temporary_stays(tmp_path, target, make):
    part = tmp_path / "e.part"
    if make:
        make(part)
        theirs = f"e.part-{HEX}"
        make(tmp_path / theirs)
    else:
        (tmp_path / "p").mkdir()
        (tmp_path / "p" / "thesis.tex").write_text("mine")
        part.symlink_to("p")
    before = content(tmp_path)
    exports(target, "old")
    assert content(tmp_path) == before


def test_what_killed_exports_have_left_goes_after_a_day(tmp_path, target, capsys):
    old, young, mixed, link, other = (
        tmp_path / f"{name}.part-{digit * 32}"
        for name, digit in [("e", "1"), ("e", "2"), ("e", "3"), ("e", "4"), ("f", "1")]
    )
    for folder in (old, young, mixed, other):
        write(folder)
    (mixed / "NOTES.md").write_text("mine")
    link.symlink_to(other.name)
    (old / "variables" / "variables_temp").mkdir()
    for name in (
        "saved_model.pb.tmp" + HEX,
        "variables/variables_temp/part-00000-of-00001.data-00000-of-00001.tempstate15",
        "variables/variables_temp/part-00000-of-00001.index",
        f"assets.extra/check.json.part-{HEX}",
    ):
        (old / name).write_text("half")
    edited, whole = (tmp_path / f"e.part-{digit * 32}" for digit in "56")
    write(edited)
    write(whole)
    (whole / export_target.LIST).write_text("{}")
    for path in (old, mixed, link, other, edited, whole):
        age(path)
    (edited / "assets.extra" / "labels.txt").write_text("just now")
    before = {k: v for k, v in content(tmp_path).items() if not k.startswith(old.name)}
    exports(target, "old")
    assert content(tmp_path) == before
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"warning: {mixed} stays: {mixed}/NOTES.md was not written here",
        f"warning: {link} stays: {link} is a link",
        f"warning: {whole} stays: it is no half export; move it away",
    ]


def age(path):
    """As if nothing of it had been touched for more than a day."""
    below = [] if path.is_symlink() else path.rglob("*")
    for one in (path, *below):
        os.utime(one, (0, time.time() - 25 * 3600), follow_symlinks=False)


def test_what_was_left_aside_stays_when_an_export_fails(tmp_path, target):
    left = tmp_path / f"e.part-{HEX}"
    write(left)
    age(left)
    before = content(tmp_path)

    def fail():
        with export_folder.writing(str(target), {}):
            raise UserError("a mistake")

    with pytest.raises(UserError, match="a mistake"):
        fail()
    assert content(tmp_path) == before
    exports(target, "old")
    assert os.listdir(tmp_path) == ["e"]


@pytest.mark.parametrize("system", ["exchanges", "does not"])
def test_the_older_export_is_looked_at_once_more(
    tmp_path, target, system, monkeypatch, capsys
):
    """Names that somebody mends in the last moment are kept, and told of."""
    exchange = files.exchange

    def late(one, other):
        (target / "assets.extra" / "labels.txt").write_text("kitten\n")
        return system == "exchanges" and exchange(one, other)

    monkeypatch.setattr(files, "exchange", late)
    before = content(target)
    exports(target)
    [older] = [path for path in tmp_path.iterdir() if path != target]
    assert content(older) == before | {"assets.extra/labels.txt": b"kitten\n"}
    assert (target / "saved_model.pb").read_text() == "new saved_model.pb"
    assert capsys.readouterr().err == (
        f"warning: the export before stays in {older}: {older}/assets.extra/labels.txt "
        "is not what the export has written there (see assets.extra/files.json); move "
        "it away\n"
    )
    age(older)
    exports(target)
    assert content(older) == before | {"assets.extra/labels.txt": b"kitten\n"}


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError])
def test_what_ends_between_two_renames_puts_the_older_export_back(
    tmp_path, target, end, monkeypatch
):
    before, rename = content(tmp_path), os.rename

    def fail(old, new):
        if ".part-" in old:
            raise end(errno.EIO, "late")
        rename(old, new)

    monkeypatch.setattr(files, "exchange", lambda *_: False)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises((KeyboardInterrupt, UserError)):
        exports(target)
    assert content(tmp_path) == before


def test_an_older_export_that_a_kill_has_set_aside_stays(tmp_path, target, capsys):
    older = tmp_path / f"e.before-{HEX}"
    target.rename(older)
    age(older)
    before = content(older)

    def fail():
        with export_folder.writing(str(target), {}):
            raise UserError("a mistake")

    said = (
        f"warning: there is no {target}: an export that was killed has left the one "
        f"before in {older}; rename it, or move it away\n"
    )
    with pytest.raises(UserError, match="a mistake"):
        fail()
    assert os.listdir(tmp_path) == [older.name]
    assert capsys.readouterr().err == said
    exports(target)
    assert capsys.readouterr().err == said
    exports(target)
    assert capsys.readouterr().err == ""
    assert content(older) == before


@pytest.mark.parametrize("below", ["", "/runs/1"])
def test_no_work_is_done_for_a_folder_that_cannot_be_made(tmp_path, below):
    (tmp_path / "file").touch()
    target = f"{tmp_path}/file{below}/served"
    with pytest.raises(UserError) as refused, export_folder.writing(target, {}):
        pytest.fail("the work has begun")
    assert str(refused.value) == (
        f"cannot write {target}: Not a directory; mend that or name another "
        "--export_dir"
    )


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EBUSY])
def test_a_folder_that_cannot_be_renamed_costs_no_work(
    tmp_path, target, number, monkeypatch, capsys
):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    why = {
        errno.EXDEV: "it came with the image of this container (overlayfs)",
        errno.EBUSY: "something is mounted there",
    }
    before = content(target)
    with monkeypatch.context() as patch:
        patch.setattr(files, "exchange", refuse)
        with pytest.raises(UserError) as refused:
            exports(target)
    [new] = [path for path in tmp_path.iterdir() if path != target]
    assert str(refused.value) == (
        f"cannot rename {target}: {why[number]}; what was to replace it stays in "
        f"{new}: rename that, or name another --export_dir"
    )
    assert content(target) == before
    assert export_target.why_foreign(str(new)) is None
    age(new)
    exports(target)
    assert capsys.readouterr().err == (
        f"warning: {new} stays: it is no half export; move it away\n"
    )
    assert (new / "saved_model.pb").read_text() == "new saved_model.pb"


@pytest.mark.parametrize("mode", [0o700, 0o2770, 0o750])
@pytest.mark.parametrize("empty", [True, False])
def test_the_folder_keeps_its_mode(tmp_path, mode, empty):
    """From the first moment: nobody else reads what is still being written."""
    target = tmp_path / "e"
    if empty:
        target.mkdir()
    else:
        exports(target)
    target.chmod(mode)
    owner = target.stat()
    with export_folder.writing(str(target), {}) as folder:
        assert stat.S_IMODE(os.stat(folder).st_mode) == mode
        write(folder)
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert (target.stat().st_uid, target.stat().st_gid) == (owner.st_uid, owner.st_gid)
    assert os.listdir(tmp_path) == ["e"]


def test_the_folder_keeps_its_group_if_it_may(tmp_path, target, monkeypatch):
    asked = []

    def refuse(path, user, group):
        asked.append((user, group))
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", refuse)
    exports(target)
    assert asked == [(-1, target.stat().st_gid)]
    assert os.listdir(tmp_path) == ["e"]


def test_a_mount_point_is_not_replaced(capsys):
    assert refusal("/proc", capsys) == (
        "/proc is a mount point, which no export can replace: name a folder in it, "
        "such as /proc/export"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("ckpt-16", "ckpt-16.index", "ckpt-16.data-00000-of-00001", "ckpt-16.json"),
        *(
            "run.json",
            "summary.json",
            "data.json",
            "evaluations",
            "metrics.jsonl",
            "eval.jsonl",
            "mistakes.html",
            ".claim.json",
        ),
        *("operative_config.gin", "best", "best/export", "train", "eval", "hosts"),
        *("hosts/export", "non_finite", f".staging-{HEX}"),
    ],
)
def test_what_a_run_will_write_is_not_taken_from_it(tmp_path, name, capsys):
    run = tmp_path / "run"
    run.mkdir()
    own = name.partition("/")[0]
    assert refusal(run / name, capsys, run) == (
        f"--export_dir {run}/{name}: {own} is a name that the run itself takes in "
        f"{run}; name another --export_dir, such as {run}/export"
    )
    assert content(tmp_path) == {"run": stat.S_IFDIR}
    (tmp_path / "link").symlink_to("run")
    assert f"{own} is a name that the run" in refusal(
        f"{tmp_path}/link/{name}", capsys, run
    )
    for other in (f"{run}/export", f"{run}/{own}-export", f"{run}2/{name}"):
        export_target.refuse(other, {export_target.RUN: str(run)})
    with pytest.raises(UserError, match="a name that the run itself takes in gs://b/r"):
        export_target._refuse_name_of_run(f"gs://b/r/{name}", "gs://b/r")


@pytest.mark.parametrize(
    "error", [UserError("a mistake"), KeyboardInterrupt(), MemoryError()]
)
def test_what_fails_leaves_the_older_export_and_nothing_else(tmp_path, target, error):
    before = content(tmp_path)

    def fail():
        with export_folder.writing(str(target), {}) as folder:
            write(folder)
            raise error

    with pytest.raises(type(error)):
        fail()
    assert content(tmp_path) == before


@pytest.mark.parametrize("broken", ["exchange", "rename", "the list"])
def test_a_disk_that_refuses_leaves_the_older_export(
    tmp_path, target, broken, monkeypatch
):
    before = content(tmp_path)

    def fail(*arguments):
        if broken == "the list" or ".part-" in str(arguments[0]):
            monkeypatch.undo()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(*arguments)

    rename = os.rename
    if broken == "the list":
        monkeypatch.setattr(files, "sha256", fail)
    elif broken == "exchange":
        monkeypatch.setattr(files, "exchange", fail)
    else:
        monkeypatch.setattr(files, "exchange", lambda *_: False)
        monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(UserError) as refused:
        exports(target)
    if broken == "the list":  # read when the older one was looked at
        said = f"cannot look into {target}"
    else:
        said = f"cannot write {target}"
    assert str(refused.value) == (
        f"{said}: Input/output error; look at the disk or name another --export_dir"
    )
    assert content(tmp_path) == before


def test_what_is_to_be_looked_at_stays(tmp_path):
    kept = []

    def differ():
        with export_folder.writing(str(tmp_path / "e"), {}) as folder:
            write(folder)
            shutil.rmtree(f"{folder}/assets.extra")  # not written yet
            kept.append(folder)
            raise StaysAside("other logits")

    with pytest.raises(UserError, match="other logits"):
        differ()
    assert [str(path) for path in tmp_path.iterdir()] == kept
    age(Path(kept[0]))
    exports(tmp_path / "e")
    assert export_target.why_foreign(kept[0]) is None


def test_a_bucket(monkeypatch):
    """Where there are neither links nor exchanges, and a folder is renamed in parts."""
    target, staging = "ram://export/e", "ram://export/staging"
    # This file system takes e.part-0 for what lies in e.
    monkeypatch.setattr(files, "staging_name", lambda _: staging)

    def rename(old, new):
        assert (old, new) == (staging, target)
        assert gfiles.kind(new) is None
        for name in [*WRITTEN, export_target.LIST]:
            put(f"{new}/{name}", gfiles.read_bytes(f"{old}/{name}").decode())
        tf.io.gfile.rmtree(old)

    def exports():
        with export_folder.writing(target, {}) as folder:
            for name in WRITTEN:
                put(f"{folder}/{name}", name)

    def put(path, text):
        tf.io.gfile.makedirs(os.path.dirname(path))
        with tf.io.gfile.GFile(path, "w") as file:
            file.write(text)

    monkeypatch.setattr(tf.io.gfile, "rename", rename)
    monkeypatch.setattr(
        gfiles, "writing", lambda path, **_: contextlib.nullcontext(path)
    )
    for _ in range(2):
        exports()
        assert gfiles.kind(staging) is None
        assert gfiles.tree(target).keys() >= {*WRITTEN, export_target.LIST}
    put(f"{target}/NOTES.md", "mine")
    with pytest.raises(UserError, match=r"e/NOTES.md was not written here, and the"):
        exports()
    tf.io.gfile.remove(f"{target}/NOTES.md")
    put(f"{target}/saved_model.pb", "mine")
    with pytest.raises(UserError, match=r"e/saved_model.pb is not what the export has"):
        exports()
    assert gfiles.read_bytes(f"{target}/saved_model.pb").endswith(b"mine")
    tf.io.gfile.rmtree("ram://export")
