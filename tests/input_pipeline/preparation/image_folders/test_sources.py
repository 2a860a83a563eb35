"""A tar file of a folder: read in place, as the folder is."""

import gzip
import io
import tarfile
from typing import cast

import pytest

from input_pipeline import dataset_info, prepare
from input_pipeline.errors import DataError
from input_pipeline.preparation.image_folders import imagefolder
from input_pipeline.preparation.plan import Pixels
from tests.input_pipeline.images import digests, encoded, stored, write_files


def tar_of(files, *, kind: bytes = tarfile.REGTYPE, form=tarfile.PAX_FORMAT) -> bytes:
    """Pack (name, content) pairs, which may hold a name twice."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=form) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if kind != tarfile.REGTYPE:
                member.type, member.linkname, member.size = kind, "x", 0
            tar.addfile(member, io.BytesIO(content))
    return output.getvalue()


def labels(path, **options):
    plan, findings = imagefolder.plan(str(path), **options)
    found = {
        split: {item.filename: plan.classes[item.label].name for item in of.items}
        for split, of in plan.splits.items()
    }
    return found, findings


IMAGES = {
    "train/cat/1.jpg": encoded(1),
    "train/cat/deep/2.jpg": encoded(2, mode="CMYK"),
    "train/dog/no_suffix": encoded(3, "PNG"),
    "train/dog/4.png": encoded(4, "PNG"),
    "val/dog/1.jpg": encoded(5),
    "val/cat/1.jpg": encoded(6),
}
AROUND = {
    "train/cat/notes.txt": b"x",
    "train/cat/._1.jpg": b"x",
    "__MACOSX/train/cat/1.jpg": b"x",
    ".DS_Store": b"x",
}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_a_tar_file_gives_the_records_of_its_folder(tmp_path, capsys, form, prefix):
    both = IMAGES | AROUND
    write_files(tmp_path / "photos", both)
    pairs = [(prefix + name, content) for name, content in reversed(both.items())]
    (tmp_path / "photos.tar").write_bytes(tar_of(pairs, form=form))
    said = []
    for name in ("photos", "photos.tar"):
        output = tmp_path / "out" / name
        source = f"--source={tmp_path / name}"
        arguments = [source, f"--output={output}", "--shards=2", "--workers=1"]
        assert prepare.main(["imagefolder", *arguments]) == 0
        said.append(capsys.readouterr().out.replace(str(output), "OUT"))
    one, other = (digests(tmp_path / "out" / n) for n in ("photos", "photos.tar"))
    del one["prepare_plan.json"], other["prepare_plan.json"]  # has the offsets
    assert one == other
    assert said[0].replace("3 hidden", "4 hidden") == said[1].replace(
        "3 hidden", "4 hidden"
    )
    train = stored(tmp_path / "out" / "photos.tar", "train")
    assert {name: fields[:2] for name, fields in train.items()} == {
        "train/cat/1.jpg": (1, "cat"),
        "train/cat/deep/2.jpg": (1, "cat"),
        "train/dog/no_suffix": (2, "dog"),
        "train/dog/4.png": (2, "dog"),
    }
    assert train["train/cat/1.jpg"][2] == IMAGES["train/cat/1.jpg"]
    info = dataset_info.load_info(str(tmp_path / "out" / "photos.tar"))
    assert info.name == "photos"


def test_class_folders_straight_in_a_tar_file_with_a_long_name(tmp_path):
    long = "x" * 120
    pairs = [(f"{name}/{long}/{i}.jpg", b"x" * i) for name in "ab" for i in (1, 2)]
    (tmp_path / "p.tar").write_bytes(tar_of(pairs))
    found, _ = labels(tmp_path / "p.tar")
    assert found == {"train": {name: name[0] for name, _ in pairs}}


def test_a_table_of_the_images_in_a_tar_file(tmp_path):
    pairs = [(f"{i}.jpg", b"x" * (i + 1)) for i in range(3)]
    (tmp_path / "p.tar").write_bytes(tar_of(pairs))
    table = tmp_path / "t.csv"
    table.write_text("id,label\n0,b\n1,a\n2,b\n")
    found, _ = labels(tmp_path / "p.tar", tables=[str(table)])
    assert found == {"train": {"0.jpg": "b", "1.jpg": "a", "2.jpg": "b"}}


X = [("a/0.jpg", b"x"), ("b/0.jpg", b"yy")]


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (gzip.compress(tar_of(X)), "photos.tar is compressed, so that it cannot be "
         "read in place: unpack it, mkdir IN/photos && tar -xf IN/photos.tar -C "
         "IN/photos, and give --source=IN/photos"),
        (b"BZh91AY&SY", "unpack it, mkdir IN/photos && tar -xf"),
        (b"\xfd7zXZ\0", "unpack it, mkdir IN/photos && tar -xf"),
        (b"PK\3\4" + bytes(99), "unpack it, unzip -q IN/photos.tar -d IN/photos"),
        (b"x" * 2000, "photos.tar is a file, and no tar file: name a folder"),
        (b"", "photos.tar is a file, and no tar file: name a folder"),
        (tar_of(X)[:700], "is damaged, cut off, or no uncompressed tar file"),
        (tar_of([*X, ("../c/0.jpg", b"z")]), "../c/0.jpg, which leads out of it"),
        (tar_of([*X, ("a/../../0.jpg", b"z")]), "which leads out of it"),
        (tar_of([*X, ("/etc/0.jpg", b"z")]), "/etc/0.jpg, which leads out of it"),
        (tar_of(X, kind=tarfile.SYMTYPE), "a/0.jpg in IN/photos.tar is a link, or no"),
        (tar_of(X, kind=tarfile.LNKTYPE), "a/0.jpg in IN/photos.tar is a link, or no"),
        (tar_of(X, kind=tarfile.FIFOTYPE), "is a link, or no plain file"),
        (tar_of(X) + tar_of(X), "holds several archives, one behind the other"),
        (tar_of([*X, X[0]]), "holds a/0.jpg twice: pack it anew"),
        (tar_of([*X, ("./a/0.jpg", b"q")]), "holds a/0.jpg twice: pack it anew"),
        (tar_of([*X, ("a/0.jpg/1.jpg", b"q")]), "holds a/0.jpg as a file and as a fol"),
        (tar_of([*X, ("a", b"q")]), "holds a as a file and as a folder"),
        (tar_of([("n01440764.tar", tar_of(X))]), "use the command imagenet (--train"),
        (tar_of([("0.jpg", b"x"), ("1.jpg", b"x")]), "holds no class folders, but 2 i"),
        (tar_of([("a/0.jpg", b"x")]), "holds one class, a: is --source"),
        (tar_of([("p/a/0.jpg", b"x"), ("p/b/0.jpg", b"x")]), "p, around the classes: "),
        (tar_of([]), "IN/photos.tar holds no image"),
    ],
)  # fmt: skip
def test_tar_files_that_are_refused(tmp_path, content, refusal):
    path = tmp_path / "photos.tar"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        labels(path)
    assert refusal in str(error.value).replace(str(tmp_path), "IN")
    assert "\n" not in str(error.value)


def test_a_table_that_lies_in_the_tar_file_itself(tmp_path):
    pairs = [("0.jpg", b"x"), ("1.jpg", b"yy"), ("t.csv", b"id,label\n0,a\n1,b\n")]
    path = tmp_path / "p.tar"
    path.write_bytes(tar_of(pairs))
    with pytest.raises(DataError, match=f"give --labels={path}/t.csv, if their labels"):
        labels(path)
    with pytest.raises(DataError, match=f"tar -xf {path} --no-anchored t.csv, and"):
        labels(path, tables=[f"{path}/t.csv"])
    with pytest.raises(DataError, match=f"tar -xf {path} --no-anchored t.csv, and"):
        labels(path, tables=["t.csv"])


def test_a_folder_in_a_tar_file(tmp_path):
    images = {name: encoded(i) for i, name in enumerate(("a/0.jpg", "b/1.jpg"))}
    pairs = [(f"./photos/{name}", content) for name, content in images.items()]
    path = tmp_path / "p.tar"
    path.write_bytes(tar_of([*pairs, ("./else/c/2.jpg", encoded(2))]))
    plan, findings = imagefolder.plan(f"{path}/photos/")
    split = plan.splits["train"]
    pixels = cast(Pixels, split.source)
    assert plan.name == "photos"
    assert {item.filename: pixels.read(item) for item in split.items} == images
    assert [split.source.describe(item) for item in split.items if item.label] == [
        f"photos/b/1.jpg in {path}"
    ]
    assert not findings.skipped
    with pytest.raises(DataError, match="holds no folder photo: it holds else, photos"):
        labels(f"{path}/photo")
    path.write_bytes(tar_of(pairs))
    with pytest.raises(DataError, match=f"give --source={path}/photos, or if photos"):
        labels(path)


def test_files_with_holes_are_refused(tmp_path):
    member = tarfile.TarInfo("a/0.jpg")
    member.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member)
    (tmp_path / "p.tar").write_bytes(output.getvalue())
    with pytest.raises(DataError, match="stored with holes: pack it anew, without tar"):
        labels(tmp_path / "p.tar")


def test_the_command_that_unpacks_is_for_the_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos.tar.gz").write_bytes(gzip.compress(tar_of(X)))
    with pytest.raises(DataError) as error:
        labels("./my photos.tar.gz")
    assert (
        "mkdir './my photos' && tar -xf './my photos.tar.gz' -C './my photos', and "
        "give --source='./my photos'" in str(error.value)
    )
