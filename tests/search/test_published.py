"""The published rows, and those of a person beside them."""

import pytest

from common.errors import UserError
from search.accuracies import published

HEAD = "family,name,width,resolution,blocks,top1,status,source\n"
GOOD = "mine,a,1.2,240,23,79.5,read,my training\n"


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "mine.csv"
        path.write_text(text)
        return published.read(path)

    return read


def test_every_row_has_a_source():
    rows = published.read()
    assert len(rows) == 167
    assert len({row.family for row in rows}) == 26
    assert all(len(row.source) > 10 for row in rows)
    assert sum(row.status == "recalled" for row in rows) == 10
    assert {row.family for row in rows if row.status == "recalled"} == {
        "efficientnet-x",
        "efficientnet-ra",
    }


def test_recalled_rows_are_fitted_only_if_asked_for():
    rows = published.read()
    read = published.fitted(rows)
    assert {row.status for row in read} == {"read"}
    assert len(read) == 117
    assert len(published.fitted(rows, recalled=True)) == 127
    assert all(row.resolution >= 128 and (row.width or 0) >= 0.5 for row in read)


def test_size_counts_blocks():
    rows = {(row.family, row.name): row for row in published.read()}
    assert rows["efficientnet-aa", "b1"].size == (23 / 16, 1, 240 / 224)
    assert rows["efficientnetv2-b", "v2-b3"].size == (32 / 21, 1.2, 300 / 224)
    assert rows["regnetx", "regnetx-4.0GF"].size is None


def test_own_rows(read):
    (row,) = read(HEAD + GOOD)
    assert (row.size, row.top1) == ((23 / 16, 1.2, 240 / 224), 79.5)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_text(HEAD + GOOD, encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbffamily")
    assert [row.family for row in published.read(path)] == ["mine"]


@pytest.mark.parametrize(
    ("old", "new", "recalled", "reason"),
    [
        ("", "", False, ""),
        (",23,", ",,", False, "blocks empty"),
        ("1.2,240,23,", ",240,,", True, "blocks and width empty"),
        ("read", "recalled", False, "recalled: fitted only with --recalled"),
        ("read", "recalled", True, ""),
        ("1.2", "0.4", False, "width 0.4 is below 0.5"),
        ("1.2", "0.5", False, ""),
        ("240", "127", False, "127 px are below 128"),
        ("240", "128", False, ""),
    ],
)
def test_why_a_row_is_left_out(read, old, new, recalled, reason):
    rows = read(HEAD + GOOD.replace(old, new))
    found = published.why_left_out(rows[0], recalled=recalled)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
    assert len(published.fitted(rows, recalled=recalled)) == (not reason)
    assert published.left_out(rows, recalled=recalled) == tuple(
        (row, found) for row in rows if reason
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column family"),
        ("family,name\nx,y\n", "line 1: no column width, resolution, blocks, top1"),
        (HEAD + GOOD + "mine,b,1.2,240\n", "line 3: it has not as many cells"),
        (HEAD + GOOD.replace("79.5", "0.795e3"), "line 2: top1 is 795"),
        (
            HEAD + GOOD.replace("79.5", "0.76"),
            "line 2: top1 is 0.76 %, below 1.5 %; it",
        ),
        (HEAD + GOOD.replace("79.5", "1"), "has to be in %, as 76, not as 0.76"),
        (HEAD + GOOD.replace("79.5", "nan"), "line 2: top1 is 'nan', not a number"),
        (HEAD + GOOD.replace("1.2", "inf"), "line 2: width is 'inf', not a number"),
        (HEAD + GOOD.replace("240", "-1"), "line 2: resolution is '-1'"),
        (HEAD + GOOD.replace("23", "23.5"), "line 2: blocks is '23.5', not a whole"),
        (HEAD + GOOD.replace("read,", "guessed,"), "line 2: status is 'guessed'"),
        (HEAD + GOOD.replace("my training", ""), "line 2: source is empty"),
        (HEAD + GOOD + GOOD, "line 3: mine, a with 79.5 % stands already in line 2"),
        (HEAD + '"a\nb",' + GOOD.partition(",")[2] + "x\n", "line 4: it has not"),
    ],
)
def test_a_mistake_names_its_line(read, text, message):
    with pytest.raises(UserError, match=r"mine\.csv, line") as error:
        read(text)
    assert message in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        published.read(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        published.read(tmp_path / "binary.csv")
