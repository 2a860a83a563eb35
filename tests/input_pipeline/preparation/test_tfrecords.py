import os

import pytest
import tensorflow as tf

from input_pipeline import dataset_info, prepare, records
from input_pipeline.errors import DataError
from input_pipeline.preparation.tfrecords import Source, describe
from tests.input_pipeline.builders import change_a_record, forget_identity
from tests.input_pipeline.images import encoded
from tests.support import folders


def example(label: int, text: str = "", synset: str = "") -> bytes:
    return records.make_example(
        encoded(label), label=label, height=16, width=20, filename="x", synset=synset,
        text=text,
    )  # fmt: skip


def example_of(**fields) -> bytes:
    features = {
        f"image/{key.replace('_', '/')}": tf.train.Feature(
            int64_list=tf.train.Int64List(value=value)
        )
        if key == "class_label"
        else tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
        for key, value in fields.items()
    }
    return tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()


def write(folder, files: dict[str, list[bytes]]) -> None:
    for name, contents in files.items():
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for content in contents:
                writer.write(content)


def look(folder, *, label_offset=1, labels=None) -> dataset_info.DatasetInfo:
    source = Source(str(folder), label_offset=label_offset, labels=labels)
    return describe(source, workers=1, overwrite_info=True).info


@pytest.fixture
def folder(tmp_path):
    """Labels 1 to 3 in two training files and one to validate."""
    folder = tmp_path / "flowers"
    folder.mkdir()
    words = {1: "daisy", 2: "rose, briar", 3: "tulip"}
    contents = [example(label, words[label], f"n{label}") for label in (1, 2, 3, 1)]
    write(
        folder,
        {
            "train-00000-of-00002": contents * 5,
            "train-00001-of-00002": contents[1:],
            "validation-00000-of-00001": contents[:2],
        },
    )
    return folder


def test_files_are_counted_and_indexed(folder, capsys, monkeypatch):
    (folder / "README").write_text("not one of them")
    arguments = ["tfrecords", "--source", str(folder), "--workers", "1"]
    assert prepare.main(arguments) == 0
    said = (
        "23 train records, 2 validation records in 2 + 1 files\n"
        "train: 3 classes of 6 to 11 images, median 6; fewest: rose, briar 6, tulip 6, "
        "daisy 11\n"
        "validation: 2 of 3 classes (none of tulip), each of 1 image\n"
    )
    assert capsys.readouterr().out == f"described {folder}: {said}"
    info = dataset_info.load_info(str(folder))
    assert info.name == "flowers"
    assert info.label_names == ("daisy", "rose, briar", "tulip")
    assert [s.records for s in info.splits["train"].shards] == [20, 3]
    assert len(info.splits["train"].shards[0].offsets) == 2
    for shard in info.splits["train"].shards:
        assert records.index_shard(records.shard_path(str(folder), shard)) == shard
    assert prepare.main(arguments) == 0
    assert capsys.readouterr().out == (
        f"nothing to do, described already: {folder}: {said}"
    )
    monkeypatch.chdir(folder)  # whatever it is called
    assert prepare.main(["tfrecords", "--source=.", "--workers=1"]) == 0
    assert capsys.readouterr().out == f"nothing to do, described already: .: {said}"


def test_names_that_a_person_has_mended_stay(folder, capsys):
    command = ["tfrecords", "--source", str(folder), "--workers", "1"]
    assert prepare.main(command) == 0
    path = folder / dataset_info.INFO_FILENAME
    path.write_text(path.read_text().replace('"tulip"', '"T\\u00fclpe"'))
    before = folders.content(folder)
    capsys.readouterr()
    for more, changes in (
        ([], "label_names: 'T\u00fclpe' -> 'tulip'"),
        (
            ["--label_offset=0"],
            "label_offset: 1 -> 0; label_names: ('daisy', 'rose, briar', 'T\u00fclpe') "
            "-> ('0', 'daisy', 'rose, briar', 'tulip')",
        ),
    ):
        assert prepare.main([*command, *more]) == 2
        assert capsys.readouterr() == (
            "",
            f"error: {path} says something else than the data do ({changes}): keep it "
            "as it is, or overwrite it with --overwrite_info\n",
        )
        assert folders.content(folder) == before
    assert prepare.main([*command, "--overwrite_info"]) == 0
    assert capsys.readouterr().out.startswith(f"described {folder}: 23 train records")
    assert dataset_info.load_info(str(folder)).label_names[2] == "tulip"


def test_images_are_counted_by_class(folder):
    splits = look(folder).splits
    assert splits["train"].images == (11, 6, 6)
    assert splits["validation"].images == (1, 1, 0)
    assert dataset_info.load_info(str(folder)).splits == splits


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_older_description_is_completed(folder, tmp_path, capsys, elsewhere):
    output = tmp_path / "out" if elsewhere else folder
    command = ["tfrecords", f"--source={folder}", "--workers=1"]
    command += [f"--output={output}"] * elsewhere
    where = f" in {output}" * elsewhere
    assert prepare.main(command) == 0
    before = folders.content(tmp_path)
    forget_identity(output)
    capsys.readouterr()
    assert prepare.main(command) == 0
    said = f"described anew, the digest was missing: {folder}{where}: 23 train records"
    assert capsys.readouterr().out.startswith(said)
    assert folders.content(tmp_path) == before


def test_a_description_where_nothing_can_be_written(folder, capsys, monkeypatch):
    command = ["tfrecords", f"--source={folder}", "--workers=1"]
    access = os.access  # root may write anywhere
    monkeypatch.setattr(
        os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode)
    )
    assert prepare.main(command) == 2
    assert capsys.readouterr().err == (
        f"error: {folder} cannot be written in: mend its permissions, or name another "
        "folder for dataset_info.json, --output=OUT\n"
    )
    with monkeypatch.context() as writable:
        writable.setattr(os, "access", access)
        assert prepare.main(command) == 0
    capsys.readouterr()
    assert prepare.main(command) == 0
    assert capsys.readouterr().out.startswith("nothing to do, described already: ")
    forget_identity(folder)
    before = folders.content(folder)
    assert prepare.main(command) == 0
    assert capsys.readouterr().out.startswith(
        "nothing to do, described already (dataset_info.json is of an older version "
        f"and has no digest, and its folder cannot be written): {folder}: 23 train"
    )
    assert prepare.main([*command, "--label_offset=0"]) == 2
    assert "cannot be written in" in capsys.readouterr().err
    assert folders.content(folder) == before


def test_a_record_that_was_changed_in_place_is_noticed(folder, capsys):
    command = ["tfrecords", f"--source={folder}", "--workers=1"]
    assert prepare.main(command) == 0
    change_a_record(folder / "train-00001-of-00002", 0, b"JFIF", b"JFIE")
    before = folders.content(folder)
    assert prepare.main(command) == 2
    said = "(splits: other records in train-00001-of-00002): keep it as it is, or"
    assert said in capsys.readouterr().err
    assert folders.content(folder) == before
    assert prepare.main([*command, "--overwrite_info"]) == 0
    assert prepare.main(command) == 0


def test_one_class_is_asked_about(tmp_path, capsys):
    write(tmp_path, {"train-00000-of-00001": [example(2, "rose")] * 3})
    command = ["tfrecords", f"--source={tmp_path}", "--workers=1"]
    assert prepare.main(command) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path} holds images of one class, label 2, 'rose': are files of "
        "the others missing, or is the label in another field? If not, give "
        "--allow_one_class\n"
    )
    assert not (tmp_path / dataset_info.INFO_FILENAME).exists()
    assert prepare.main([*command, "--allow_one_class"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "train: 1 of 2 classes (none of 1), each of 3 images",
        "all images of train are of one class, rose: are the others missing?",
    ]


@pytest.mark.parametrize("name", ["train-00001-of-00002", "dataset_info.json"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_named(folder, name, make):
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    what = "folder" if make == os.mkdir else "named pipe"
    said = f"{folder / name} is a {what}, no file: move it away, or choose another"
    with pytest.raises(DataError, match=said):
        describe(Source(str(folder)), workers=1)


@pytest.mark.long
def test_names_are_given_or_synsets_or_numbers(folder, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("eins\nzwei\ndrei\nvier\n")
    assert look(folder, labels=str(names)).label_names == (
        "eins", "zwei", "drei", "vier",
    )  # fmt: skip
    write(folder, {"validation-00000-of-00001": [example(3, "other", "n3")]})
    assert look(folder).label_names == ("n1", "n2", "n3")
    write(folder, {"validation-00000-of-00001": [example(1, "other", "")]})
    assert look(folder).label_names == ("1", "2", "3")
    for content in ("a\n\nb\n", ""):
        names.write_text(content)
        with pytest.raises(DataError, match="must hold one class name a line"):
            look(folder, labels=str(names))
    names.write_bytes(b"\xff\n")
    with pytest.raises(DataError, match=r"names.txt is not UTF-8"):
        look(folder, labels=str(names))
    with pytest.raises(DataError, match="cannot read none: No such file"):
        look(folder, labels="none")


def test_labels_that_do_not_fit_say_what_does(folder, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\n")
    with pytest.raises(
        DataError,
        match=r"labels 1 to 3, but --label_offset 0 allows 0 to 2: "
        r"give --label_offset 1$",
    ):
        look(folder, label_offset=0, labels=str(names))
    with pytest.raises(DataError, match=r"allows 2 and up: give --label_offset 1$"):
        look(folder, label_offset=2)
    names.write_text("a\nb\n")
    with pytest.raises(DataError, match="allows 1 to 2: give a file of more names to"):
        look(folder, labels=str(names))
    assert look(folder, label_offset=0).label_names[0] == "0"


def test_missing_empty_and_damaged_files_are_named(folder, tmp_path):
    first = folder / "train-00000-of-00002"
    content = first.read_bytes()
    first.unlink()
    with pytest.raises(DataError, match=rf"lacks 1 of 2 train files .*{first.name}"):
        look(folder)
    first.write_bytes(b"")
    with pytest.raises(DataError, match=f"{first} is empty: copy or prepare it"):
        look(folder)
    first.write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"{first} is not a whole TFRecord file.* 19 g"):
        look(folder)
    write(folder, {"train-00000-of-00003": []})
    with pytest.raises(
        DataError, match=r"sets named train: train-\*-of-00002 and train"
    ):
        look(folder)
    with pytest.raises(DataError, match="there is no folder"):
        look(tmp_path / "none")
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    with pytest.raises(DataError, match="empty is empty: name another folder with"):
        look(tmp_path / "empty")
    assert not (folder / dataset_info.INFO_FILENAME).exists()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\xff\xff", "is not a tf.train.Example"),
        (example_of(encoded=[b"x"]), "the field image/class/label is missing"),
        (
            example_of(encoded=[b"x"], class_label=[1, 2]),
            r"label holds 2 int64s \(1, 2",
        ),
        (example_of(class_label=[1]), "the field image/encoded is missing or empty"),
        (
            example_of(encoded=[b""], class_label=[1]),
            "image/encoded is missing or",
        ),
    ],
    ids=["no example", "no label", "two labels", "no image", "an empty image"],
)
def test_records_that_training_cannot_use_are_named(folder, content, fault):
    path = folder / "train-00001-of-00002"
    write(folder, {path.name: [example(1), content]})
    with pytest.raises(DataError, match=f"{path}, record 1.*{fault}"):
        look(folder)
