"""A whole search by the real commands, undisturbed and killed ten times. Slow."""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from common.errors import Status
from search import nas
from tests.support import toy_nas
from tests.support.commands import status
from tests.support.holding import holding_process

pytestmark = pytest.mark.slow

# What lies in the search's folder when a life ends by SIGKILL, a moment later: the
# supernet's training three times, its scores, random search twice, final trainings
# three times, and the making of the page.
EVENTS = (
    "supernet",
    "supernet/metrics.jsonl",
    "supernet/summary.json",
    "stages/supernet.json",
    "random/search.json",
    "random/results.jsonl",
    "final/found-seed-0/metrics.jsonl",
    "stages/final-found-seed-0.json",
    "final/baseline-seed-0/metrics.jsonl",
    "stages/export.json",
)


def written(folder, digits):
    """A gin file of the toy for three networks and a seed, on real digits."""
    data = f"experiment.Experiment.data_dir = {str(digits)!r}"
    path = folder / "toy.gin"
    lines = [
        toy_nas.CONFIG,
        f"nas_search.Nas.gin_params = [{data!r}]",
        "nas_search.Nas.trust_networks = 3",
        "nas_search.Nas.seeds = 1",
    ]
    path.write_text("\n".join((*lines, "")))
    return path


def flags(folder, digits, *more):
    gin_file = written(folder, digits)
    return [f"--gin_file={gin_file}", f"--search_dir={folder / 's'}", *more]


def outcome(folder):
    """All that has to be the same, whatever has ended the search in between."""
    found = {}
    for name in ("found", "scores", "trust", "random", "final"):
        found[name] = json.loads((folder / "s/stages" / f"{name}.json").read_text())
    random = found["random"]
    return {
        "found": found["found"]["network"],
        "scores": found["scores"],
        "trust": found["trust"]["rows"],
        "best": [random["best"][name] for name in ("network", "value", "top1")],
        "final": [(row["name"], row["top1"]) for row in found["final"]["rows"]],
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, digits):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert status(nas.main, *flags(folder, digits)) == Status.OK
    return folder


def test_a_whole_search(undisturbed):
    folder = undisturbed / "s"
    for name in ("supernet", "found", "random", "trust", "final", "latency", "export"):
        assert (folder / "stages" / f"{name}.json").exists(), name
    assert (folder / "export" / "saved_model.pb").exists()
    assert b"The found network" in (folder / "report.html").read_bytes()
    found = json.loads((folder / "stages" / "found.json").read_text())
    assert found["step"] == 12
    assert found["alone"]["images"] == 1000
    assert (folder / "networks" / "found.safetensors").exists()
    export = json.loads((folder / "stages" / "export.json").read_text())
    assert export["statistics"]["scored_images"] == 1000
    assert export["statistics"]["top1_before"] == pytest.approx(export["top1"] / 100)
    lines = (folder / "supernet" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert len(last["policy_probabilities"]) == 11
    assert last["policy_ms"] == pytest.approx(found["ms"], rel=1e-5)  # float32


def killed_behind(event, command, folder, rng, **files):
    """Begin a life, and end it by SIGKILL a moment after a file is there."""
    with subprocess.Popen(command, **files) as life:
        while not (folder / event).exists():
            assert life.poll() is None, f"it has ended before {event}"
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        assert life.poll() is None, f"it has ended with {event}"
        life.kill()


def test_ten_kills(undisturbed, tmp_path, digits):
    """At any moment of every stage; what comes out is what would have come."""
    rng = random.Random(0)
    command = [sys.executable, "-m", "search.nas", *flags(tmp_path, digits)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with (tmp_path / "log.txt").open("ab") as log:
        files = {"stdout": log, "stderr": log, "env": environment}
        for event in EVENTS:
            killed_behind(event, command, tmp_path / "s", rng, **files)
        last = subprocess.run(command, timeout=1800, check=False, **files)
    assert last.returncode == Status.OK, (tmp_path / "log.txt").read_text()[-3000:]
    assert outcome(tmp_path) == outcome(undisturbed)
    assert b"The found network" in (tmp_path / "s/report.html").read_bytes()


def test_two_at_once(undisturbed, digits):
    """The second process is refused, and says by whom."""
    command = [sys.executable, "-m", "search.nas", *flags(undisturbed, digits)]
    with holding_process(str(undisturbed / "s"), "a search"):
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == Status.MISTAKE
        assert "a search" in second.stderr
        assert "Traceback" not in second.stderr
