"""The report of a neural architecture search: its numbers, and what is missing."""

import html
import json

import pytest

from common.errors import Status
from search import nas, report
from search.reports import report_page
from search.stages import children, trust
from tests.search.test_report import Elements, charts, rows_in
from tests.support import toy_nas
from tests.support.commands import status


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole search, by commands that are arithmetic."""
    path = tmp_path_factory.mktemp("nas")
    (path / "toy.gin").write_text(toy_nas.CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(children, "run", toy_nas.Commands().run)
        flags = [f"--gin_file={path / 'toy.gin'}", f"--search_dir={path / 's'}"]
        assert status(nas.main, *flags) == Status.OK
    return path / "s"


def stage(folder, name):
    return json.loads((folder / "stages" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_bytes()


def test_everything_is_in_its_charts(folder, page):
    drawn = charts(page)
    names = ["seeds", "pareto", "trust", "random", "controller", "choices"]
    assert list(drawn) == names
    seeds = rows_in(drawn["seeds"]["spec"])
    final = stage(folder, "final")["rows"]
    assert [(row["name"], row["seed"], row["top1"]) for row in seeds] == [
        (row["name"], row["seed"], row["top1"]) for row in final
    ]
    assert rows_in(drawn["trust"]["spec"]) == stage(folder, "trust")["rows"]
    assert len(rows_in(drawn["random"]["spec"])) == 10
    curves = rows_in(drawn["controller"]["spec"])
    assert [row["step"] for row in curves] == list(range(10, 101, 10))
    assert [row["entropy"] for row in curves] == [3 - n / 10 for n in range(1, 11)]
    # Ten points of 11 values.
    shares = rows_in(drawn["choices"]["spec"])
    assert len(shares) == 110
    assert {row["choice"] for row in shares} == {
        *("1.kernel_size", "1.expand_ratio"),
        *("2.fused", "2.se_ratio", "2.expand_ratio"),
    }


def test_the_pareto_picture_has_all_finalists(folder, page):
    rows = rows_in(charts(page)["pareto"]["spec"])
    final, latency = stage(folder, "final"), stage(folder, "latency")["rows"]
    ms = {row["network"]: row["ms"] for row in latency if row["role"] == "searched by"}
    found = {row["who"]: (row["ms"], row["top1"]) for row in rows}
    assert found == {
        "the found network": (ms["found"], final["means"]["found"]),
        "random search's best": (ms["random"], final["means"]["random"]),
        "the recipe's own": (ms["baseline"], final["means"]["baseline"]),
    }


def test_what_it_says(folder, page):
    text = Elements(page).text
    assert stage(folder, "trust")["verdict"] in text
    assert "one standard deviation" in text
    assert "+10.0" in text  # of the exact source, against the prediction
    assert stage(folder, "found")["network"] in text
    assert "Variant(" in text
    assert stage(folder, "found")["weights"] in text
    assert "top-1 90.00 % before, 91.20 % after, on 500 images" in text
    assert "NOT YET" not in text
    assert report_page.is_ours(page)


@pytest.mark.parametrize("off", [-0.01, 0, 0.01])
def test_a_ranking_is_marked_as_its_verdict_says(tmp_path, folder, off, monkeypatch):
    """By one number, whatever it is."""
    monkeypatch.setattr(trust, "LEAST", 0.7)
    for name in ("command.json", "search.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "stages").mkdir()
    found = trust.Trust(trust.LEAST + off, 0.1, 8)
    written = json.dumps(found.as_json() | {"rows": [], "missing": 0})
    (tmp_path / "stages" / "trust.json").write_text(written)
    page = report.write(tmp_path).read_text()
    kind = "" if found.is_trusted else ' class="warning"'
    assert found.is_trusted == (off >= 0)
    assert f"<p{kind}>Kendall's tau {0.7 + off:.2f} over 8 random networks" in (
        html.unescape(page)
    )


def test_what_was_left_out_is_said(tmp_path, folder):
    for name in ("command.json", "search.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    command = json.loads((tmp_path / "command.json").read_text())
    command |= {"skipped": {"trust": "left out by --no_trust"}}
    command["stages"].remove("trust")
    (tmp_path / "command.json").write_text(json.dumps(command))
    (tmp_path / "stages").mkdir()
    text = Elements(report.write(tmp_path).read_bytes()).text
    assert "LEFT OUT BY --NO_TRUST" in text
    assert text.count("NOT YET") == 6
    assert "The search has not found one yet." in text
    assert "No network was trained by the whole recipe." in text
    assert "There was none, so nobody knows how much of this is luck." in text


def test_a_stage_that_somebody_has_changed_is_said(tmp_path, folder):
    for name in ("command.json", "search.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "trust.json").write_text('{"tau": "high"}')
    (tmp_path / "stages" / "final.json").write_text("{")
    text = Elements(report.write(tmp_path).read_bytes()).text
    assert "is not as search.nas writes it" in text
    assert "final.json cannot be read, and is left out." in text
