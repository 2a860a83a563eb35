import dataclasses
import html.parser
import json
import subprocess
import sys
import time

import pytest

from common.errors import Status, UserError
from models.variants import VARIANTS
from search import report
from search.families.family import stages
from search.reports import report_data, report_page
from tests.support import browser, search_folders
from tests.support.commands import status

NASTY = "</script><b>\"'&\u2028é漢<!--"


class Elements(html.parser.HTMLParser):
    """The elements of a page, as a browser would see them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split()).replace("\u2011", "-")


def charts(page):
    """Return the charts of a page by name."""
    begin = page.index(b'id="charts">') + len(b'id="charts">')
    found = json.loads(page[begin : page.index(b"</script>", begin)])
    return {one["id"]: one for one in found}


def rows_in(spec):
    """Return the rows that a chart brings with itself."""
    return [row for rows in spec["datasets"].values() for row in rows]


def held(page, name):
    """Return the results that a page holds."""
    return report_data.rows(report_page.data_of(page)[name])


def as_read(results):
    """Return results as JSON gives them back."""
    return [json.loads(json.dumps(one.as_json())) for one in results]


@pytest.fixture(scope="module")
def family_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    search_folders.write_family(folder)
    report.write(folder)
    return folder


@pytest.fixture(scope="module")
def blocks_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blocks")
    search_folders.write_results(folder, search_folders.make_results(400, rungs=2))
    random = search_folders.make_results(300, seed=1, skill=0, rungs=2)
    search_folders.write_results(folder / "random", random)
    report.write(folder)
    return folder


def page_of(folder):
    return (folder / "report.html").read_bytes()


def changed_family(folder, tmp_path, change):
    """Return the page, and its text, of a family that a function has changed."""
    family = json.loads((folder / "family.json").read_text())
    change(family)
    (tmp_path / "family.json").write_text(json.dumps(family))
    page = report.write(tmp_path).read_bytes()
    return page, Elements(page).text


def test_a_page_holds_the_family_as_it_is(family_folder):
    page = report_page.data_of(page_of(family_folder))
    assert page["family"] == json.loads((family_folder / "family.json").read_text())
    assert page["search"] == search_folders.CONDITIONS
    assert page["results"]["rows"] == []


def test_a_page_holds_every_result_as_it_is(blocks_folder):
    page = page_of(blocks_folder)
    for name, folder in (
        ("results", blocks_folder),
        ("random", blocks_folder / "random"),
    ):
        lines = (folder / "results.jsonl").read_text().splitlines()
        assert held(page, name) == [json.loads(line) for line in lines]
    assert page.count(b'id="results"') == 1
    # Its charts draw these rows, and bring no copy of them.
    drawn = charts(page)
    assert drawn["pareto"]["names"] == ["results", "random"]
    assert drawn["pareto"]["spec"]["datasets"] == {}


def test_every_network_of_a_family_is_in_the_picture(family_folder):
    family = json.loads((family_folder / "family.json").read_text())
    rows = rows_in(charts(page_of(family_folder))["pareto"]["spec"])
    expected = {
        (who, one["name"], one["exact_ms"] or one["cheap_ms"], one["top1"])
        for outcome in family["outcomes"]
        for who, one in [
            ("ours", outcome["chosen"]),
            *((r["name"], r["network"]) for r in outcome["rivals"] if r["network"]),
        ]
    }
    found = {
        (row["who"], row["name"], row["ms"], row["top1"])
        for row in rows
        if row["mark"] == "predicted"
    }
    assert found == expected
    assert len(found) == 29  # five of each target, and one has no network


def test_references_are_not_taken_for_predictions(family_folder):
    page = page_of(family_folder)
    rows = rows_in(charts(page)["pareto"]["spec"])
    marks = {row["name"]: (row["mark"], row["top1"]) for row in rows
             if row["who"] == "references"}  # fmt: skip
    assert marks == {
        "efficientnetv2-s": ("published", 83.9),
        "efficientnetv2-b3": ("published", 82.1),
        "efficientnet-x-b4": ("published, as recalled", 83.0),
    }
    text = Elements(page).text
    assert "another kind of network" in text  # why V2 has no prediction
    assert "was not compiled" in text  # why B0 is not drawn


def test_what_is_predicted_is_called_so(family_folder, tmp_path):
    text = Elements(page_of(family_folder)).text
    assert "predicted top-1, %" in text
    assert "Time at equal predicted top-1" in text

    def trained(family):
        for one in family["outcomes"]:
            networks = [r["network"] for r in one["rivals"] if r["network"]]
            for network in (one["chosen"], *networks):
                network["top1_source"] = "trained, 350 epochs"

    _, text = changed_family(family_folder, tmp_path, trained)
    assert "Time at equal top-1" in text
    assert "predicted top-1, %" not in text.split("Other networks")[0]


def test_a_table_says_model_parts_and_whole_side_by_side(family_folder):
    text = Elements(page_of(family_folder)).text
    assert "asked, ms model, ms parts, ms whole, ms" in text
    #  target, network, reached; asked, and 0.97, 1.04 and 1 of 18.1 * 1.01
    assert "efficientnet-x-b1 lacs-1 yes 18.10 17.73 19.01 18.28 16 1.6 224" in text
    assert "Not reached: 60 ms." in text


def test_a_gain_whose_bar_holds_zero_is_equal(family_folder):
    page = page_of(family_folder)
    for row in rows_in(charts(page)["gains"]["spec"]):
        equal = row["low"] <= 0 <= row["high"]
        assert row["verdict"].startswith("equal") == equal, row
    assert "efficientnet-x-b4: no network of fast takes that time." in (
        Elements(page).text
    )


def test_the_searched_sizes_and_failures_are_counted(family_folder):
    text = Elements(page_of(family_folder)).text
    assert "grid: points 24696" in text
    assert "grid: resolutions 3, from 160 to 600" in text
    assert "trust region: width 1, 2" in text
    assert "whole: does not fit: 17.2 GB of 16 GB 1" in text
    assert "images of 163 px are not divisible by 2 1" in text
    assert "efficientnet-x-b1 901 1 0" in text  # asked, finalists, failures


def test_conditions_stand_in_front(family_folder, tmp_path):
    text = Elements(page_of(family_folder)).text
    front = text[: text.index("What was asked for")]
    for fact in ("topology v3", "batch 64", "dtype bfloat16", "libtpu 0.0.52"):
        assert fact in front
    search_folders.write_results(tmp_path, search_folders.make_results(1))
    line = json.dumps({"conditions": {"topology": "v6e", "batch": 8}, "ms": 1.0})
    (tmp_path / "latency.jsonl").write_text(f"{line}\n{line}\n")
    text = Elements(report.write(tmp_path).read_bytes()).text
    assert "latencies: topology v6e latencies: batch 8" in text
    assert "2 latencies kept." in text


def test_networks_are_drawn_stage_by_stage(family_folder, tmp_path):
    page = page_of(family_folder).decode()
    drawings = page.split('<svg class="network"')[1:]
    assert len(drawings) == 5
    texts = [part.split("<")[0] for part in drawings[0].split('">')]
    assert texts.count("depthwise") == 5
    assert texts.count("fused") == 2
    assert "k3 e6 SE" in texts

    def without(family):
        for one in family["outcomes"]:
            del one["chosen"]["stages"]

    page, text = changed_family(family_folder, tmp_path, without)
    assert b'<svg class="network"' not in page
    assert "does not say what the stages are" in text


def without_exact_times(family):
    """Leave the model's times alone, and no top-1 of x-tpu's networks."""
    for one in family["outcomes"]:
        networks = [r["network"] for r in one["rivals"] if r["network"]]
        for network in (one["chosen"], *networks):
            network["exact_ms"] = network["parts_ms"] = None
        rival = one["rivals"][1]
        rival |= {"gain": None, "time_at_equal_top1": None}
        rival["network"] |= {"top1": None, "top1_spread": None, "top1_reason": "far"}


def test_a_number_that_is_not_known_has_a_reason(family_folder, tmp_path):
    page, text = changed_family(family_folder, tmp_path, without_exact_times)
    rows = rows_in(charts(page)["pareto"]["spec"])
    assert {row["by"] for row in rows if row["mark"] == "predicted"} == {"model"}
    assert "x-tpu" not in {row["who"] for row in rows}
    assert "5 networks without a time or a top-1 cannot be drawn" in text
    assert "efficientnet-x-b1: the gain over x-tpu is not known" in text
    targets = "; ".join(f"x-tpu, {target}" for target in search_folders.TARGETS)
    assert f"No top-1: {targets}: far." in text
    assert "No prediction: efficientnetv2-s; efficientnetv2-b3: another kind" in text
    assert "No time: efficientnet-b0: was not compiled." in text


def test_what_is_missing_is_said_not_drawn_empty(family_folder, tmp_path):
    def bare(family):
        family["references"] = []
        for one in family["outcomes"]:
            one["rivals"], one["by_form"] = [], {}

    page, text = changed_family(family_folder, tmp_path, bare)
    assert set(charts(page)) == {"pareto", "axes"}
    for sentence in (
        "No reference has a published top-1 and a time.",
        "there is nothing to compare",
        "Ours was compared with nothing that has a top-1.",
        "Nowhere is it known how much time ours needs",
        "No references were named.",
        "There is no search.json",
    ):
        assert sentence in text

    def blind(family):
        for one in family["outcomes"]:
            one["chosen"] |= {"top1": None, "top1_spread": None}

    page, text = changed_family(tmp_path, tmp_path, blind)
    assert set(charts(page)) == {"axes"}
    assert "No network has both a time and a top-1" in text


def test_a_file_that_is_no_family_is_said(family_folder, tmp_path):
    def damage(family):
        family["outcomes"][2]["chosen"]["exact_ms"] = "fast"

    page, text = changed_family(family_folder, tmp_path, damage)
    assert "it.outcomes[2].chosen.exact_ms is not a number above 0" in text
    assert charts(page) == {}
    (tmp_path / "family.json").write_text('{"outcomes": [')
    text = Elements(report.write(tmp_path).read_bytes()).text
    assert "family.json cannot be read, and is left out." in text


def test_a_running_search_is_read_from_all_its_files(tmp_path):
    results = search_folders.make_results(30)
    search_folders.write_results(tmp_path, results[:10])
    (tmp_path / "results").mkdir()
    for worker in range(2):
        # The merged file has 0 to 9, worker 0 those and more; number 20 both have.
        mine = [one for one in results if one.number % 2 == worker]
        mine += [dataclasses.replace(results[20], worker="late")] * worker
        lines = "".join(json.dumps(one.as_json()) + "\n" for one in mine)
        torn = '{"number": 99, "netw' if worker else ""
        (tmp_path / "results" / f"w{worker}.jsonl").write_text(lines + torn)
    page = report.write(tmp_path).read_bytes()
    assert held(page, "results") == as_read(results)
    text = Elements(page).text
    assert "results/w1.jsonl, line 17, is half written, and is left out." in text
    assert "numbers that two workers have finished; the first one counts 1" in text
    assert "evaluations that are finished 30" in text


@pytest.mark.parametrize(
    "change",
    [
        {"number": "7"},
        {"number": True},
        {"ms": [3]},
        {"ms": -1.0},
        {"top1": [101.0]},
        {"top1": ["80"]},
        {"network": None},
        {"sources": ["predicted"]},
        {"surprise": 1},
    ],
)
def test_a_line_that_is_no_result_is_left_out_and_said(tmp_path, change):
    good, bad = as_read(search_folders.make_results(2))
    lines = [json.dumps(good), json.dumps(bad | change), "[]", "nonsense"]
    (tmp_path / "results.jsonl").write_text("\n".join(lines) + "\n")
    data = report_data.read(tmp_path)
    assert data.results == [good]
    assert [text.split(", and")[0] for text in data.unreadable] == [
        f"{tmp_path.name}/results.jsonl, line 2, is no result",
        f"{tmp_path.name}/results.jsonl, line 3, is no result",
        f"{tmp_path.name}/results.jsonl, line 4, cannot be read",
    ]


def test_numbers_that_a_browser_does_not_know_are_left_out(tmp_path):
    row = as_read(search_folders.make_results(2))[1]
    text = json.dumps(row | {"ms": 1.5, "value": 2.5})
    text = text.replace("1.5", "NaN").replace("2.5", "1e999")
    (tmp_path / "results.jsonl").write_text(text + "\n")
    page = report.write(tmp_path).read_bytes()
    assert held(page, "results") == [row | {"ms": None, "value": None}]


def test_of_many_samples_the_deciles_are_kept(tmp_path):
    row = as_read(search_folders.make_results(2))[1] | {"top1": [*range(101)]}
    (tmp_path / "results.jsonl").write_text(json.dumps(row))
    found = report_data.read(tmp_path).results[0]["top1"]
    assert found == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert report_data.median(found) == 50


def test_names_cannot_leave_their_place(family_folder, tmp_path):
    def rename(family):
        family["name"] = family["base"] = NASTY
        for one in family["outcomes"]:
            one["target"] = one["chosen"]["name"] = NASTY + one["target"]
            one["failures"] = {NASTY: NASTY}
            one["chosen"]["stages"][1]["kind"] = NASTY
            for rival in one["rivals"]:
                rival["name"] = NASTY + rival["name"]

    (tmp_path / "search.json").write_text(json.dumps({NASTY: NASTY, "x": "a\n</pre>"}))
    row = as_read(search_folders.make_results(2))[1]
    changes = {"network": NASTY, "reason": NASTY, "value": None, "worker": NASTY}
    (tmp_path / "results.jsonl").write_text(json.dumps(row | changes))
    page, text = changed_family(family_folder, tmp_path, rename)
    elements = Elements(page)
    tags = [tag for tag, _ in elements.tags]
    assert tags.count("script") == 4
    assert NASTY.replace("\u2028", " ") in text  # as a person sees it
    assert report_page.data_of(page)["family"]["name"] == NASTY
    assert held(page, "results")[0]["network"] == NASTY
    # The tags that the names would make: <b> is ours around each setting's name.
    settings = page.decode().count("<span><b>")
    assert tags.count("b") == settings


def test_a_page_fetches_nothing(family_folder, blocks_folder):
    for folder in (family_folder, blocks_folder):
        elements = Elements(page_of(folder))
        assert {tag for tag, _ in elements.tags} & {"link", "img", "iframe"} == set()
        for tag, attrs in elements.tags:
            assert not {"src", "href", "srcset", "data"} & set(attrs), (tag, attrs)
        policy = [a["content"] for _, a in elements.tags if "http-equiv" in a]
        assert len(policy) == 1
        assert policy[0].startswith("default-src 'none'; ")
        assert "http" not in policy[0]
        specs = json.dumps([one["spec"] for one in charts(page_of(folder)).values()])
        urls = specs.count("http")
        assert urls == specs.count('"https://vega.github.io/schema/vega-lite/')


def test_only_its_own_file_is_written_anew(tmp_path):
    search_folders.write_results(tmp_path, search_folders.make_results(3))
    path = report.write(tmp_path)
    search_folders.write_results(tmp_path, search_folders.make_results(4))
    assert report.write(tmp_path) == path == tmp_path / "report.html"
    mine = path.read_bytes()
    assert len(held(mine, "results")) == 4
    for other in (b"", b"notes\n", mine.replace(b"<h1>", b"<h1>my "), mine + b"\n"):
        path.write_bytes(other)
        with pytest.raises(UserError, match="not what this command has written"):
            report.write(tmp_path)
        assert path.read_bytes() == other
    elsewhere = tmp_path / "elsewhere.html"
    assert report.write(tmp_path, elsewhere) == elsewhere
    assert [p.name for p in tmp_path.iterdir() if ".part-" in p.name] == []


def test_the_command(tmp_path, capsys):
    search_folders.write_results(tmp_path, search_folders.make_results(3))
    output = tmp_path / "out.html"
    done = status(report.main, f"--search_dir={tmp_path}", f"--output={output}")
    assert done == Status.OK
    assert capsys.readouterr().out == f"{output}: 0.9 MB\n"
    assert report_page.is_ours(output.read_bytes())
    empty = tmp_path / "empty"
    empty.mkdir()
    assert status(report.main, f"--search_dir={empty}") == Status.MISTAKE
    assert "holds no search" in capsys.readouterr().err
    assert status(report.main, f"--search_dir={empty}/none") == Status.MISTAKE
    assert "there is no folder" in capsys.readouterr().err
    lost = f"--output={tmp_path}/no/such/x.html"
    assert status(report.main, f"--search_dir={tmp_path}", lost) == Status.MISTAKE
    assert "cannot write" in capsys.readouterr().err


def test_a_search_that_has_just_begun_has_a_page(tmp_path):
    (tmp_path / "search.json").write_text('{"command": "x", "config": "a\\nb"}')
    page = report.write(tmp_path).read_bytes()
    text = Elements(page).text
    assert "Nothing has been evaluated yet." in text
    assert "Settings: config a b" in text
    assert charts(page) == {}


def test_help_needs_neither_altair_nor_a_framework():
    code = (
        "import sys, search.report as r; r._parser(); "
        "print({'altair', 'vl_convert', 'tensorflow', 'keras', 'jax', 'optuna'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.long
def test_three_thousand_results_are_small_and_fast(tmp_path):
    search_folders.write_results(tmp_path, search_folders.make_results(3000))
    begin = time.process_time()
    path = report.write(tmp_path)
    assert time.process_time() - begin < 10
    assert path.stat().st_size < 2.5e6


def test_stages_of_a_network():
    found = stages(VARIANTS["efficientnet-x-b0"])
    assert [(one["kind"], one["blocks"], one["channels"], one["resolution"])
            for one in found] == [
        ("stem", 1, 32, 112),
        ("depthwise", 1, 64, 56),  # 16 channels, and 2x2 pixels in four times as many
        ("fused", 2, 24, 56),
        ("fused", 2, 40, 28),
        ("depthwise", 3, 80, 14),
        ("depthwise", 3, 112, 14),
        ("depthwise", 4, 192, 7),
        ("depthwise", 1, 320, 7),
        ("head", 1, 1280, 7),
    ]  # fmt: skip
    assert found[1]["space_to_depth"] == "conv"
    assert (found[3]["kernel"], found[3]["expansion"]) == (5, 6)


def test_a_stage_of_unlike_blocks_has_several_rows():
    base = VARIANTS["efficientnet-b0"]
    changed = dataclasses.replace(base, block_changes=((4, (("kernel_size", 3),)),))
    found = [one for one in stages(changed) if one["stage"] == 3]
    assert [(one["kernel"], one["blocks"]) for one in found] == [(5, 1), (3, 1)]
    for variant in (base, changed):
        blocks = [s["blocks"] for s in stages(variant) if s["kind"] == "depthwise"]
        assert sum(blocks) == 16


@pytest.mark.slow
def test_a_browser_without_a_network_draws_a_family(family_folder, tmp_path):
    browser.require_chromium()
    opened = browser.open_page(family_folder / "report.html", tmp_path / "profile")
    assert opened.console == []
    drawn = charts(page_of(family_folder))
    assert f'data-drawn="{len(drawn)}"' in opened.dom
    rows = rows_in(drawn["pareto"]["spec"])
    assert points(opened.dom, "pareto") == len(rows)
    gains = rows_in(drawn["gains"]["spec"])
    assert points(opened.dom, "gains") == len(gains)


@pytest.mark.slow
def test_a_browser_draws_what_is_known_in_part(family_folder, tmp_path):
    browser.require_chromium()
    page, _ = changed_family(family_folder, tmp_path, without_exact_times)
    opened = browser.open_page(tmp_path / "report.html", tmp_path / "profile")
    assert opened.console == []
    rows = rows_in(charts(page)["pareto"]["spec"])
    assert points(opened.dom, "pareto") == len(rows)


@pytest.mark.slow
def test_a_browser_without_a_network_draws_results(blocks_folder, tmp_path):
    browser.require_chromium()
    opened = browser.open_page(blocks_folder / "report.html", tmp_path / "profile")
    assert opened.console == []
    assert 'data-drawn="3"' in opened.dom
    page = page_of(blocks_folder)
    ours, others = held(page, "results"), held(page, "random")
    whole = [row for row in (*ours, *others) if row["ms"] and row["top1"]]
    spec = json.dumps(charts(page)["pareto"]["spec"])
    numbers = json.loads(spec[spec.index("indexof(") + 8 :].partition("]")[0] + "]")
    assert points(opened.dom, "pareto") == len(whole) + len(numbers)
    # The page's script takes the same medians as Python.
    first = next(row for row in ours if row["top1"])
    label = f"top-1 %, median: {report_data.median(first['top1']):.2f}"
    assert label in opened.dom


@pytest.mark.slow
def test_a_page_is_drawn_at_1200_pixels(blocks_folder, tmp_path):
    browser.require_chromium()
    png = tmp_path / "page.png"
    browser.screenshot(blocks_folder / "report.html", tmp_path / "profile", png)
    data = png.read_bytes()
    assert data[:4] == b"\x89PNG"
    assert int.from_bytes(data[16:20], "big") == 1200


def points(dom, chart):
    """Return how many points a chart has, drawn as SVG."""
    begin = dom.index(f'id="{chart}"')
    end = dom.find('class="chart vega-embed', begin)
    return dom[begin : None if end < 0 else end].count('aria-roledescription="point"')
