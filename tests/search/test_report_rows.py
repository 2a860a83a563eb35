import json
import math
import statistics

import pytest

from search.families.family import Family
from search.reports import report_block_rows as rows
from search.reports import report_charts, report_forms, report_text
from tests.support import search_folders


def result(number, *, top1=(), ms=None, value=None, rung=0, digest=None, network=""):
    return {
        "number": number,
        "network": network,
        "digest": digest or f"{number:016x}",
        "rung": rung,
        "value": value,
        "top1": list(top1),
        "ms": ms,
        "reason": "",
        "seconds": 1.0,
    }


def test_the_front_is_what_no_other_one_beats():
    found = [
        result(0, top1=[80], ms=10),
        result(1, top1=[79], ms=11),  # slower and worse
        result(2, top1=[80], ms=10),  # equal: the first stands for both
        result(3, top1=[78], ms=5),
        result(4, top1=[80], ms=9),  # as good as the first, and faster
        result(5, top1=[81], ms=30),
        result(6, top1=[], ms=1),
        result(7, top1=[99], ms=None),
        result(8, top1=[99], ms=1, rung=1),
    ]
    assert [one["number"] for one in rows.front(found, 0)] == [3, 4, 5]
    assert [one["number"] for one in rows.front(found, 1)] == [8]
    assert rows.front([], 0) == []


def test_the_front_agrees_with_its_definition():
    found = [one.as_json() for one in search_folders.make_results(300)]

    def size(one):
        return one["ms"], -statistics.median(one["top1"])

    known = [one for one in found if one["ms"] and one["top1"]]
    expected = {
        one["number"]
        for one in known
        if not any(
            other is not one
            and all(a <= b for a, b in zip(size(other), size(one), strict=True))
            for other in known
        )
    }
    assert {one["number"] for one in rows.front(found, 0)} == expected


def test_the_best_so_far_goes_on_to_the_last_number():
    values = [None, 0.5, 0.4, None, 0.7, 0.6]
    found = [result(number, value=value) for number, value in enumerate(values)]
    steps = rows.best_so_far(found, 0, "us")
    assert [(s["number"], s["best"]) for s in steps] == [(1, 0.5), (4, 0.7), (5, 0.7)]
    assert rows.best_so_far(found, 1, "us") == []


def test_a_network_is_ranked_once_by_its_best():
    found = [
        result(0, value=0.5, digest="a"),
        result(1, value=0.9, digest="b"),
        result(2, value=0.8, digest="a"),
        result(3, value=None, digest="c"),
        result(4, value=1.5, digest="d", rung=1),
    ]
    assert [one["number"] for one in rows.best(found, 0)] == [1, 2]
    assert rows.duplicates(found) == 1
    assert rows.last_rung(found) == 1


def test_choices_of_an_encoding():
    text = (
        "r224 w1.5 s2d-conv-1-2 / 1 mbconv k3 e6 c16 n+1 se0.25 hard_swish b2 / 2 fused"
    )
    assert rows.choices(text) == {
        (0, "resolution"): "224",
        (0, "width factor"): "1.5",
        (0, "space-to-depth"): "conv-1-2",
        (1, "kind"): "mbconv",
        (1, "kernel"): "3",
        (1, "expansion"): "6",
        (1, "channels"): "16",
        (1, "blocks"): "+1",
        (1, "squeeze-and-excite"): "0.25",
        (1, "activation"): "hard_swish",
        (1, "space-to-batch"): "2",
        (2, "kind"): "fused",
    }
    assert rows.choices("") == {}
    assert rows.choices("relu6")[0, "activation"] == "relu6"


def test_shares_of_the_best_tenth():
    found = [
        result(
            number,
            value=number,
            network=f"r224 / 1 k{3 if number >= 15 else 5} e{3 + number % 2 * 3}",
        )
        for number in range(20)
    ]  # the best two are 18 and 19
    shares = rows.shares(found, 0)
    kernel = [s for s in shares if s["field"] == "kernel"]
    assert [(s["value"], s["share"], s["all"]) for s in kernel] == [
        ("3", 1.0, 0.25),
        ("5", 0.0, 0.75),
    ]
    expansion = [s for s in shares if s["field"] == "expansion"]
    assert [(s["start"], s["middle"], s["end"]) for s in expansion] == [
        (0.0, 0.25, 0.5),
        (0.5, 0.75, 1.0),
    ]
    assert "resolution" not in {s["field"] for s in shares}  # all have one
    assert rows.shares(found[:9], 0) == []


def test_repetitions_tell_the_spread():
    found = [
        result(0, top1=[80, 81, 90], digest="a"),  # 81
        result(1, top1=[82], digest="a"),
        result(2, top1=[70], digest="b"),
        result(3, top1=[73], digest="b"),
        result(4, top1=[76], digest="b"),
        result(5, top1=[10], digest="b", rung=1),
        result(6, top1=[], digest="c"),
        result(7, top1=[50], digest="c"),
    ]
    repeated = rows.repeated(found)
    assert repeated == [[81, 82], [70, 73, 76]]
    # Sums of squares 0.5 and 18 over 1 + 2 degrees of freedom.
    assert rows.deviation(repeated) == pytest.approx(math.sqrt(18.5 / 3), rel=1e-15)


def test_only_far_off_points_are_cut():
    near = [float(value) for value in range(100)]
    assert rows.lower_end(near, 0.1) == 0.0
    assert rows.lower_end([-500.0, *near], 0.1) == 10.0 - 1
    assert rows.lower_end([3.0], 0.1) == 3.0


def test_rungs_are_counted():
    found = [
        result(0, value=0.1),
        result(1, value=None),
        result(2, value=0.4),
        result(3, value=0.2, rung=1),
    ]
    assert [tuple(one.values()) for one in rows.rungs(found)] == [
        (0, 3, 1, 0.4, 1.0),
        (1, 1, 0, 0.2, 1.0),
    ]


def test_reasons_that_differ_in_numbers_alone_are_one():
    texts = ["12.5 GB of 16 GB", "diverged", "17 GB of 16 GB", "", "1,200 GB of 16 GB"]
    assert report_text.reasons(texts) == [
        ("12.5 GB of 16 GB", 3),
        ("diverged", 1),
        ("no reason given", 1),
    ]


@pytest.mark.parametrize(
    ("sources", "label"),
    [
        (["predicted", "predicted by x"], "predicted top-1, %"),
        (["trained, 4 epochs", "table"], "top-1, %"),
        (["trained, 4 epochs", "predicted"], "top-1, in part predicted, %"),
        ([], "top-1, %"),
    ],
)
def test_predictions_are_called_so(sources, label):
    assert report_text.accuracy_label(sources).replace("\u00a0", " ") == label


def test_nested_settings_are_a_line_each():
    found = {"a_b": {"c": [1, 2], "d": {}}, "e": None, "f": 0.0123456789, "g": "x\ny"}
    assert report_text.facts(found) == [
        ("a b: c", "1, 2"),
        ("a b: d", "{}"),
        ("f", "0.0123457"),
    ]
    assert report_text.texts(found) == {"g": "x\ny"}


@pytest.mark.parametrize(
    ("low", "high"), [(1, 1.05), (14, 96), (3, 40), (0.02, 900), (1e-290, 1e290)]
)
def test_ticks_of_an_axis_are_few_and_inside(low, high):
    found = report_charts.ticks(*report_charts.span([low, high]))
    assert 1 <= len(found) <= 12
    assert sorted(set(found)) == found
    begin, end = report_charts.span([low, high])
    assert begin < low <= high < end
    assert all(begin <= tick <= end for tick in found)


def test_a_family_as_it_is_made_has_the_form():
    family = search_folders.make_family()
    assert report_forms.wrong(family_json(family)) == ""
    bare = Family(name="x", base="y", outcomes=[])
    assert report_forms.wrong(family_json(bare)) == ""


def family_json(family):
    return json.loads(json.dumps(family.as_json()))


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("name",), 3, "it.name is not a text"),
        (("outcomes",), {}, "it.outcomes is not a list"),
        (("outcomes", 0, "ms"), 0, "it.outcomes[0].ms is not a number above 0"),
        (("outcomes", 1, "reached"), 1, "it.outcomes[1].reached is not true or false"),
        (
            ("outcomes", 0, "chosen", "top1_spread"),
            [1],
            "it.outcomes[0].chosen.top1_spread is not a list of 2",
        ),
        (
            ("outcomes", 0, "by_form", "product"),
            None,
            "it.outcomes[0].by_form.product is not an object",
        ),
        (("references", 3), {}, "it.references[3] has no name"),
    ],
)
def test_what_has_another_form_is_named(path, value, why):
    family = family_json(search_folders.make_family())
    place = family
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert report_forms.wrong(family) == why
