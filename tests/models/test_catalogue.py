import json
import re
import subprocess
import sys

import pytest

from models import catalogue, complexity
from models.variants import VARIANTS, get_variant

COMMAND = [sys.executable, "-m", "models.catalogue"]
B1_TO_B7 = range(1, 8)
X_REMARK = "as remembered, not checked against a copy of the paper"


@pytest.fixture(scope="module")
def objects():
    """Name -> object of the whole catalogue, as a script reads it."""
    result = subprocess.run([*COMMAND, "--json"], check=True, capture_output=True)
    assert not result.stderr
    listed = json.loads(result.stdout)
    assert [entry["name"] for entry in listed] == list(VARIANTS)
    return {entry["name"]: entry for entry in listed}


@pytest.fixture
def printed(capsys):
    """Function: arguments -> exit code, standard output, standard error."""

    def run(*arguments):
        code = catalogue.main(arguments)
        return code, *capsys.readouterr()

    return run


def test_json_has_the_golden_numbers(objects, golden_variants):
    for name, golden in golden_variants.items():
        entry, config = objects[name], golden["config"]
        assert entry["resolution"] == config["resolution"]
        assert entry["width_coefficient"] == config["width"]
        assert entry["depth_coefficient"] == config["depth"]
        assert entry["blocks"] == len(golden["blocks"])
        for key in ("trainable_params", "non_trainable_params", "macs"):
            assert entry[key] == golden[key]


def test_json_has_the_activations(objects):
    for name, entry in objects.items():
        cost = complexity.total(get_variant(name))
        assert entry["activation_elements"] == cost.activation_elements
        assert entry["activation_bytes"] == 2 * cost.activation_elements


@pytest.mark.parametrize(
    ("name", "accuracies"),
    [
        ("efficientnet-x-b0", [77.3]),
        ("efficientnet-x-b7", [84.7]),
        ("efficientnet-x-tpu-b0", [77.3]),
        ("efficientnet-x-gpu-b0", [77.3]),
        ("efficientnet-b0", [76.7, 77.1]),
        ("efficientnet-b5", [83.1, 83.6, 83.7]),
        ("efficientnet-b6", [84.0]),
        ("efficientnet-b7", [84.3, 84.7]),
        ("efficientnet-lite0", [75.1]),
        ("efficientnet-lite4", [81.5]),
        ("efficientnetv2-b0", [78.7]),
        ("efficientnetv2-b3", [82.1]),
        ("efficientnetv2-s", [83.9]),
        ("efficientnetv2-l", [85.7]),
        ("efficientnetv2-xl", [87.2]),
        ("efficientnet-x-b5-timm", [84.93]),
        ("efficientnet-h-b5-timm", [84.94]),
    ],
)
def test_published_accuracies(objects, name, accuracies):
    entries = objects[name]["published"]
    assert [entry["top1"] for entry in entries] == accuracies
    for entry in entries:
        assert entry.keys() == {"top1", "recipe", "source", "remark"}
        assert entry["recipe"]
        assert entry["source"]


def test_what_has_no_published_accuracy(objects):
    without = {name for name, entry in objects.items() if entry["published"] is None}
    lacs = {f"efficientnet-x-{kind}-b{n}" for kind in ("tpu", "gpu") for n in B1_TO_B7}
    wider = {f"efficientnet-h-{kind}b{n}" for kind in ("", "tpu-") for n in (5, 6, 7)}
    ours = {f"efficientnet-x-v5e-b{n}" for n in range(1, 6)}
    assert without == lacs | wider | ours | {"efficientnet-x-b3-timm"}


def test_remembered_accuracies_say_so(objects):
    remarks = {
        name: [entry["remark"] for entry in objects[name]["published"] or ()]
        for name in objects
        if re.fullmatch(r"efficientnet-x-(tpu-|gpu-)?b\d", name)
    }
    for name, said in remarks.items():
        assert all(X_REMARK in remark for remark in said), name
    for name in ("efficientnet-x-tpu-b0", "efficientnet-x-gpu-b0"):
        assert remarks[name] == [f"the same network as efficientnet-x-b0; {X_REMARK}"]


def test_accuracies_are_of_variants_that_exist():
    assert {name for name, _ in catalogue._PUBLISHED} <= set(VARIANTS)


def test_same_networks():
    twins = {name: catalogue.same_network(row) for name, row in VARIANTS.items()}
    assert {name: twin for name, twin in twins.items() if twin} == {
        "efficientnet-x-tpu-b0": "efficientnet-x-b0",
        "efficientnet-x-gpu-b0": "efficientnet-x-b0",
        "efficientnet-x-gpu-b1": "efficientnet-x-tpu-b1",
    }


def test_table(printed):
    code, out, err = printed()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    rows = lines[1 : lines.index("")]
    assert [row.split()[0] for row in rows] == list(VARIANTS)
    assert max(map(len, lines)) <= 110
    assert rows[0].split() == [
        *("efficientnet-x-b0", "224", "7.584", "0.920", "9.7", "16"),
        *("77.3", "[1]"),
    ]
    assert rows[8].endswith("  not published")
    footer = " ".join(out.split())
    assert "None of these accuracies was reproduced here." in footer


def test_footnotes_are_those_that_the_rows_need(printed):
    for names in ((), ("efficientnet-b7", "efficientnet-x-gpu-b0")):
        _, out, _ = printed(*names)
        rows, notes = out.split("\n\n")
        used = set(re.findall(r"\[\d\]", rows))
        assert used == set(re.findall(r"^\[\d\]", notes, flags=re.MULTILINE))


@pytest.mark.parametrize("name", ["efficientnet-x-b3", "efficientnet-x-gpu-b0"])
def test_the_table_says_what_was_remembered(printed, name):
    _, out, _ = printed(name)
    assert X_REMARK in " ".join(out.split())


def test_names_come_in_the_order_of_the_table(printed):
    names = ["efficientnet-b0", "efficientnet-x-b3", "efficientnet-b0"]
    _, out, _ = printed("--json", *names)
    listed = [entry["name"] for entry in json.loads(out)]
    assert listed == ["efficientnet-x-b3", "efficientnet-b0"]


def test_numbers_are_aligned_on_the_right_and_accuracies_on_the_left(printed):
    _, out, _ = printed("efficientnet-x-b0", "efficientnet-h-b7")
    head, *rows = out.split("\n\n")[0].splitlines()
    end, start = head.index("params M") + len("params M"), head.index("published")
    assert [row[end - 7 : end].strip() for row in rows] == ["7.584", "99.746"]
    assert [row[start:].split()[0] for row in rows] == ["77.3", "not"]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_unknown_name(printed, form):
    code, out, err = printed(*form, "efficientnet-b0", "efficientnet-x-b8")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(
        "error: unknown variant 'efficientnet-x-b8': did you mean efficientnet-x-b0"
    )


def test_reader_that_goes_away():
    process = subprocess.Popen(
        [*COMMAND, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert err == b""
