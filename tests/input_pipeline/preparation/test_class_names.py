"""Files of the classes' names, as people, editors and other tools leave them."""

import os

import pytest

from input_pipeline.errors import DataError
from input_pipeline.preparation import class_names

WANTED = ("cat", "dog", "emu", "fox")
LINES = "cat\ndog\nemu\nfox\n"
NUMBERS = "the numbers of its lines are taken off the names"
BACKGROUND = "'background' in line 1 is taken for label 0, which no class has"


def read(path, content: bytes, first: int, classes: int = 4):
    """Return the names of so many classes and what is noted, or the error's text."""
    path.write_bytes(content)
    notes: list[str] = []
    try:
        found = class_names.read(str(path), first=first, note=notes.append)
        labels = range(first, first + classes)
        found = class_names.for_labels(found, labels, str(path), notes.append)
    except DataError as error:
        return str(error).removeprefix(str(path)), []
    return found, [note.removeprefix(f"{path}: ") for note in notes]


@pytest.mark.parametrize(
    ("text", "first", "names", "notes"),
    [
        (LINES, 1, WANTED, []),
        (LINES.rstrip(), 1, WANTED, []),
        ("\ufeff" + LINES, 1, WANTED, []),
        (LINES.replace("\n", "\r\n"), 1, WANTED, []),
        ("\ufeff" + LINES.replace("\n", "\r\n"), 1, WANTED, []),
        (LINES.replace("\n", "\r"), 1, WANTED, []),
        (LINES + "\n \n\r\n", 1, WANTED, []),
        ("  cat\ndog \n\temu\nfox\u3000\n", 1, WANTED, []),
        ("0:cat\n1:dog\n2:emu\n3:fox\n", 1, WANTED, [NUMBERS]),
        ("1: cat\n2: dog\n3: emu\n4: fox\n", 0, WANTED, [NUMBERS]),
        ("0 cat\n1 dog\n2 emu\n3 fox\n", 1, WANTED, [NUMBERS]),
        ("0\tcat\n1\tdog\n2\temu\n3\tfox\n", 0, WANTED, [NUMBERS]),
        ("0,cat\n1,dog\n2,emu\n3,fox\n", 0, WANTED, [NUMBERS]),
        ("1. cat\n2. dog\n3. emu\n4. fox\n", 1, WANTED, [NUMBERS]),
        ("0 - cat\n1 - dog\n2 - emu\n3 - fox\n", 1, WANTED, [NUMBERS]),
        ("7=cat\n8=dog\n9=emu\n10=fox\n", 7, WANTED, [NUMBERS]),
        ("cat,0\ndog,1\nemu,2\nfox,3\n", 1, WANTED, [NUMBERS]),
        ("cat 1\ndog 2\nemu 3\nfox 4\n", 1, WANTED, [NUMBERS]),
        ("#1 cat\n#2 dog\n#3 emu\n#4 fox\n", 1, WANTED, [NUMBERS]),
        ("(1) cat\n(2) dog\n(3) emu\n(4) fox\n", 1, WANTED, [NUMBERS]),
        ("0 -> cat\n1 -> dog\n2 -> emu\n3 -> fox\n", 1, WANTED, [NUMBERS]),
        ("0|cat\n1|dog\n2|emu\n3|fox\n", 1, WANTED, [NUMBERS]),
        ("000:cat\n001:dog\n002:emu\n003:fox\n", 0, WANTED, [NUMBERS]),
        ("background\n" + LINES, 1, WANTED, [BACKGROUND]),
        ("background\n" + LINES, 0, ("background", *WANTED), []),
        ("background\ncat\ndog\nemu\n", 1, ("background", "cat", "dog", "emu"), []),
        ("0:background\n1:cat\n2:dog\n3:emu\n4:fox\n", 1, WANTED,
         [NUMBERS, BACKGROUND]),
        ("1 euro\n2 euro\n3 euro\n4 euro\n", 1,
         ("1 euro", "2 euro", "3 euro", "4 euro"), []),
        ("Audi 2012\nVW 2013\nBMW 2012\nKia 2014\n", 1,
         ("Audi 2012", "VW 2013", "BMW 2012", "Kia 2014"), []),
        ("2012 Audi\n2013 VW\n2012 BMW\n2014 Kia\n", 1,
         ("2012 Audi", "2013 VW", "2012 BMW", "2014 Kia"), []),
        ("0\n1\n2\n3\n", 0, ("0", "1", "2", "3"), []),
        ("tench, Tinca tinca\ncock\nhen\nostrich, 'Struthio'\n", 1,
         ("tench, Tinca tinca", "cock", "hen", "ostrich, 'Struthio'"), []),
        ("name\ncat\ndog\nemu\n", 1, ("name", "cat", "dog", "emu"), []),
        (LINES + "gnu\nhen\n", 1, (*WANTED, "gnu", "hen"), []),
        ("cat\ndog\n", 1, ("cat", "dog"), []),
        ("Ärmelkanal\n日本\n🐈\nёж\n", 1, ("Ärmelkanal", "日本", "🐈", "ёж"), []),
    ],
)  # fmt: skip
def test_names_that_are_read(tmp_path, text, first, names, notes):
    assert read(tmp_path / "n.txt", text.encode(), first) == (names, notes)


EMPTY = " must hold one class name a line, and no empty line"
NUMBERED = (
    ": its lines are numbered, but not from 0 or 1 in order ({!r} comes first): put "
    "them in the order of the labels, the names alone"
)
UNNUMBERED = (
    ", line {}: {!r} has no number, as most lines have: remove it if it is a heading, "
    "or number all or none"
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", EMPTY),
        ("\n \n", EMPTY),
        ("\ufeff", EMPTY),
        ("cat\n\ndog\n", f"{EMPTY} (line 2)"),
        ("\n" + LINES, f"{EMPTY} (line 1)"),
        (LINES.encode("utf-16"), " is UTF-16, not UTF-8: save it so"),
        (LINES.encode("utf-32"), " is UTF-32, not UTF-8: save it so"),
        (LINES.encode("utf-16-le"), " is UTF-16 or no text, not UTF-8: save it so"),
        ("caf\xe9\n".encode("latin-1"), " is not UTF-8: save it so"),
        ("cat\n\x1b[31mred\nemu\nfox\n",
         ", line 2: '\\x1b[31mred' holds a control character: remove it"),
        ("cat\ndog\x0bemu\nfox\n",
         ", line 2: 'dog\\x0bemu' holds a control character: remove it"),
        ("cat\ndog\ncat\n",
         ": lines 1 and 3 are both 'cat': every class needs a name of its own"),
        ("caf\xe9\nbar\ncafe\u0301\n",
         ": lines 1 and 3 are both 'cafe\u0301': every class needs a name of its own"),
        ("0:cat\n1:dog\n2:cat\n",
         ": lines 1 and 3 are both 'cat': every class needs a name of its own"),
        ("# names\n" + LINES,
         ", line 1: '# names' looks like a remark, not like a name: remove it"),
        ("cat\n# birds\nemu\n",
         ", line 2: '# birds' looks like a remark, not like a name: remove it"),
        ("1:cat\n0:dog\n2:emu\n", NUMBERED.format("1:cat")),
        ("1 cat\n0 dog\n2 emu\n", NUMBERED.format("1 cat")),
        ("cat 3\ndog 2\nemu 1\n", NUMBERED.format("cat 3")),
        ("5:cat\n6:dog\n7:emu\n", NUMBERED.format("5:cat")),
        ("0:cat\n1:dog\n3:emu\n", NUMBERED.format("0:cat")),
        ("id,name\n0,cat\n1,dog\n", UNNUMBERED.format(1, "id,name")),
        ("0:cat\n1:dog\nemu\n3:fox\n", UNNUMBERED.format(3, "emu")),
        ("name\n" + LINES, " holds one name more than there are classes, and line 1, "
         "'name', looks like a heading: remove it"),
        ("background\n" + LINES + "gnu\n", " begins with 'background': remove this "
         "line if the next one names label 1; if it names label 0, add "
         "--label_offset 0"),
        ('["cat", "dog", "emu", "fox"]', " is JSON: write one class name a line"),
        ('{"0": "cat",\n "1": "dog"}\n', " is JSON: write one class name a line"),
        ("{0: 'cat',\n 1: 'dog',\n}\n", " is Python: write one class name a line"),
        ('{\n"0": "cat",\n"1": "dog",\n}\n',
         " is Python: write one class name a line"),
        ("['cat',\n'dog']\n", " is Python: write one class name a line"),
        ("classes = ['cat', 'dog']\n", " is Python: write one class name a line"),
        ("- cat\n- dog\n", " is YAML: write one class name a line"),
        ("id,common,latin\na,cat,felis\nb,dog,canis\nc,emu,d\nd,fox,vulpes\n",
         " holds one name more than there are classes, and line 1, "
         "'id,common,latin', looks like a heading: remove it"),
        ('0,"cat"\n1,"dog, wet"\n2,"emu"\n', " has its names in quotes: take them off"),
        ("cat,\ndog,\n",
         " has a comma or a semicolon behind each name: take them off"),
        ("n1\ttench\tx\nn2\them\ty\n",
         " is a table with tabs: leave the column of the names alone"),
        ("item {\n  id: 1\n  name: 'cat'\n}\n",
         " is a label map of the Object Detection API: write one class name a line"),
        ("names:\n  - cat\n  - dog\n", " is YAML: write one class name a line"),
        ("<!DOCTYPE html>\n<html>\n",
         " is a page of the web or XML: write one class name a line"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
         " is what Git LFS leaves in place of a file: write one class name a line"),
        ('"cat"\n"dog"\n"emu"\n', " has its names in quotes: take them off"),
        ("'cat',\n'dog',\n'emu',\n", " has its names in quotes: take them off"),
    ],
)  # fmt: skip
def test_files_that_are_refused(tmp_path, content, said):
    data = content if isinstance(content, bytes) else content.encode()
    assert read(tmp_path / "n.txt", data, 1) == (said, [])


def test_what_a_tool_has_written_is_taken_as_it_is(tmp_path):
    path = tmp_path / "label.labels.txt"
    path.write_text("# 1\n0 x\n1 y\nbackground\n")
    notes: list[str] = []
    found = class_names.read(str(path), first=0, note=notes.append, plain=True)
    assert (found, notes) == (("# 1", "0 x", "1 y", "background"), [])


def test_a_pipe_is_no_file(tmp_path):
    """To read it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe is a named pipe, no file"):
        class_names.read(str(tmp_path / "pipe"), first=1, note=print)
