import os

import pytest
import tensorflow as tf

from input_pipeline import dataset_info, prepare, records
from input_pipeline.errors import DataError
from input_pipeline.preparation.tfrecords import Source, describe
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


@pytest.mark.parametrize("name", ["train-00001-of-00002", "dataset_info.json"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_named(folder, name, make):
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    what = "folder" if make == os.mkdir else "named pipe"
    said = f"{folder / name} is a {what}, no file: move it away, or choose another"
    with pytest.raises(DataError, match=said):
        describe(Source(str(folder)), workers=1)


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
    with pytest.raises(DataError, match="cannot read none: none; No such file"):
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
