"""`python -m search.nas`, as a person runs it, stops it and runs it again.

The commands that it starts are arithmetic here, see `tests.support.toy_nas`.
"""

import json
import shlex
from pathlib import Path

import pytest

from common.errors import Restart, Status, UserError
from search import nas
from search.stages import children
from tests.support import toy_nas
from tests.support.commands import status

STAGES = ["supernet", "found", "random", "trust", "final", "latency", "export"]


@pytest.fixture
def commands(monkeypatch):
    found = toy_nas.Commands()
    monkeypatch.setattr(children, "run", found.run)
    return found


@pytest.fixture
def run(tmp_path, capsys, commands):
    """Run the command in one folder; return its status, output and errors."""
    gin_file = tmp_path / "toy.gin"
    gin_file.write_text(toy_nas.CONFIG)

    def go(*more, folder=tmp_path / "search"):
        flags = [f"--gin_file={gin_file}", f"--search_dir={folder}", "--noreport"]
        return status(nas.main, *flags, *more), *capsys.readouterr()

    return go


def with_line(folder, setting):
    """Return the flag of one more gin file, with a setting of Nas from the toy."""
    path = folder / "more.gin"
    path.write_text(
        "from __gin__ import dynamic_registration\n"
        "from search import nas_search\nfrom tests.support import toy_nas\n"
        f"nas_search.Nas.{setting}\n"
    )
    return f"--gin_file={path}"


def stage(folder, name):
    return json.loads((folder / "search" / "stages" / f"{name}.json").read_text())


def test_all_stages(run, tmp_path, commands):
    code, out, _ = run()
    assert code == Status.OK
    # 8 random networks to see what one costs, then as many as 100 seconds pay.
    assert commands.calls == [
        *("train.main", "search.stages.score"),
        *("search.blocks", "search.blocks"),
        *["train.main"] * 6,
        *("search.stages.recipe", "train.export"),
    ]
    heads = [line.split(":")[0] for line in out.splitlines()]
    assert list(dict.fromkeys(heads)) == [
        f"{number}/7 {name}" for number, name in enumerate(STAGES, start=1)
    ]
    found = stage(tmp_path, "found")
    assert found["network"] == "1 k5 e4 / 2 fused e2 se0"
    assert found["train"][:3] == ["python", "-m", "train.main"]
    assert f"--gin_file={found['gin_file']}" in found["train"]
    assert (
        "variant = @network/variants.Variant()" in Path(found["gin_file"]).read_text()
    )
    random = stage(tmp_path, "random")
    assert (random["evaluations"], random["budget"]["seconds"]) == (10, 100.0)
    assert (random["seconds"], random["images"]) == (100.0, 10 * toy_nas.IMAGES)
    trust = stage(tmp_path, "trust")
    assert trust["networks"] == len(trust["rows"]) == 8
    final = stage(tmp_path, "final")
    assert {row["name"] for row in final["rows"]} == {"found", "random", "baseline"}
    assert [row["seed"] for row in final["rows"]] == [0, 0, 0, 1, 1, 1]
    latency = stage(tmp_path, "latency")["rows"]
    assert [(row["network"], row["role"]) for row in latency] == [
        (name, role)
        for role in ("searched by", "exact")
        for name in ("found", "random", "baseline")
    ]
    assert latency[3]["ms"] == pytest.approx(1.1 * latency[0]["ms"])


def test_the_supernet_s_weights_are_left_for_who_wants_them(run, tmp_path):
    _, out, _ = run()
    found = stage(tmp_path, "found")
    weights = tmp_path / "search" / "networks" / "found.safetensors"
    assert found["weights"] == str(weights)
    assert weights.exists()
    assert found["alone"]["top1"] == 87.5
    assert (
        f"its weights out of the supernet: {weights}; alone, with batch norm's "
        "statistics of 10,000 training images, 87.50 % on 500\n"
    ) in out
    line = f"experiment.Experiment.pretrained = {str(weights)!r}"
    assert found["fine_tune"] == line
    assert f"begin with them: --gin_param={shlex.quote(line)}\n" in out


def test_an_export_has_statistics_of_its_own(run, tmp_path, commands):
    _, out, _ = run()
    export = stage(tmp_path, "export")
    assert "--statistics_images=10000" in export["command"]
    assert "--score_images=500" in export["command"]
    assert export["statistics"]["exported"] is True
    assert (
        "batch norm's statistics anew, of 10,000 training images: top-1 90.00 % "
        "before, 91.20 % after, on 500 images\n"
    ) in out
    assert "WORSE" not in out


def test_statistics_that_are_worse_are_not_exported(
    run, tmp_path, commands, monkeypatch
):
    monkeypatch.setattr(toy_nas, "AFTER", 0.898)
    _, out, _ = run()
    assert commands.calls[-2:] == ["train.export"] * 2
    export = stage(tmp_path, "export")
    assert not any(one.startswith("--stat") for one in export["command"])
    assert "statistics" not in export["report"]
    assert export["statistics"]["exported"] is False
    assert "top-1 90.00 % before, 89.80 % after, on 500 images: THEY ARE WORSE" in out


def test_a_search_of_an_earlier_version_goes_on(run, tmp_path, commands, monkeypatch):
    """Its scores know nothing of weights, and its export of no statistics."""
    run("--no_export")
    folder = tmp_path / "search" / "stages"
    for name, keys in {
        "scores": ["alone"],
        "found": ["alone", "weights", "fine_tune"],
    }.items():
        known = stage(tmp_path, name)
        rest = {key: value for key, value in known.items() if key not in keys}
        (folder / f"{name}.json").write_text(json.dumps(rest))
    monkeypatch.setitem(toy_nas._ACTS, "train.export", lambda _: "{}")
    code, out, _ = run()
    assert code == Status.OK
    assert "out of the supernet" not in out
    assert "batch norm" not in out


def test_the_same_command_again_does_nothing(run, tmp_path, commands):
    _, before, _ = run()
    done = len(commands.calls)
    code, out, _ = run()
    assert (code, out) == (Status.OK, before)
    assert len(commands.calls) == done


@pytest.mark.parametrize("module", sorted(toy_nas._ACTS))
def test_it_goes_on_where_it_was_stopped(run, tmp_path, commands, module):
    commands.trouble[module] = Restart("stopped")
    assert run()[0] == Status.RESTART
    commands.trouble.clear()
    before = len(commands.calls)
    code, out, _ = run()
    assert code == Status.OK
    # What was done stays so: the one command that was stopped is run once more.
    assert len(commands.calls) == 13
    assert commands.calls[before - 1] == commands.calls[before] == module
    assert out.count("NOT TO BE TRUSTED") + out.count("in order") == 1


def test_a_kill_within_random_search_costs_it_nothing(run, tmp_path, commands):
    """What it may cost counts by its first trainings, not by all that there are."""
    usual, done = commands.run, []

    def killed_behind_the_ninth(arguments, *rest, **more):
        if "--evaluations=10" in arguments and not done:
            done.append(True)
            fewer = [one.replace("=10", "=9") for one in arguments]
            usual(fewer, *rest, **more)
            raise Restart("stopped")
        return usual(arguments, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(children, "run", killed_behind_the_ninth)
        assert run()[0] == Status.RESTART
        assert run()[0] == Status.OK
    assert stage(tmp_path, "random")["evaluations"] == 10


def test_ctrl_c(run, commands):
    commands.trouble["train.main"] = KeyboardInterrupt()
    code, _, err = run()
    assert code == Status.INTERRUPTED
    assert "the same command goes on" in err


def test_a_mistake_in_a_training_is_one_line(run, commands):
    commands.trouble["train.main"] = UserError("the training: no data (see log)")
    code, _, err = run()
    assert code == Status.MISTAKE
    assert err.splitlines()[-1] == "error: the training: no data (see log)"


def test_what_is_left_out_is_said(run, tmp_path, commands):
    code, out, _ = run("--no_trust", "--no_final", "--seeds=1")
    assert code == Status.OK
    assert "not done: trust (left out by --no_trust)" in out
    assert "not done: final (left out by --no_final)" in out
    assert "export: not done: the found network was not trained" in out
    command = json.loads((tmp_path / "search" / "command.json").read_text())
    assert command["stages"] == ["supernet", "found", "random", "latency", "export"]
    # What was left out then is done when it is asked for.
    code, out, _ = run()
    assert code == Status.OK
    assert "not done" not in out
    assert stage(tmp_path, "final")["seeds"] == 2


def test_more_seeds_are_added(run, tmp_path, commands):
    run("--seeds=1")
    before = len(commands.calls)
    run("--seeds=3")
    trained = [one for one in commands.calls[before:] if one == "train.main"]
    assert len(trained) == 6
    assert len(stage(tmp_path, "final")["rows"]) == 9


def test_without_random_search(run, tmp_path, commands):
    code, _, _ = run("--no_random")
    assert code == Status.OK
    assert stage(tmp_path, "trust")["networks"] == 8
    assert set(stage(tmp_path, "final")["means"]) == {"found", "baseline"}
    assert commands.calls.count("search.blocks") == 1


def test_evolution(run, tmp_path, commands):
    code, out, _ = run(
        "--method=evolution", "--gin_param=nas_search.Nas.evaluations = 12"
    )
    assert code == Status.OK
    assert commands.calls[:2] == ["search.blocks", "search.blocks"]
    assert "search.stages.score" not in commands.calls
    assert "trust: not done: evolution trains each network by itself" in out
    assert stage(tmp_path, "random")["evaluations"] == 12
    gin = (tmp_path / "search" / "gin" / "evolution.gin").read_text()
    assert "block_search.BlockSearch.sampler = @samplers.AgeingEvolution()" in gin


def test_both_methods_do_not_mix(run):
    run()
    code, _, err = run("--method=evolution")
    assert code == Status.MISTAKE
    assert "+nas_search.Nas.method = 'evolution'" in err


def test_another_config_in_the_folder_is_refused(run):
    run()
    code, _, err = run("--gin_param=nas_search.Nas.seed = 1")
    assert code == Status.MISTAKE
    assert "another config" in err


def test_status(run, commands):
    commands.trouble["search.blocks"] = Restart("stopped")
    run()
    code, out, _ = run("--status")
    lines = out.splitlines()
    assert code == Status.OK
    assert lines[0].startswith("1/7 supernet: 1.7 minutes of training steps")
    assert lines[-6:-1] == [
        "3/7 random: not begun",
        "4/7 trust: not begun",
        "5/7 final: not begun",
        "6/7 latency: not begun",
        "7/7 export: not begun",
    ]
    assert lines[-1].startswith("goes on with: python -m search.nas")


def test_status_of_no_search(run):
    code, _, err = run("--status")
    assert code == Status.MISTAKE
    assert "is no search's folder" in err


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        ("method = 'darts'", "'supernet' or 'evolution'"),
        ("gin_files = []", "one or more"),
        ("trust_networks = 2", "from 3"),
        ("rungs = (9, 3)", "as many as short_epochs"),
        ("space = @spaces.blocks", "it has to be a space"),
    ],
)
def test_mistakes_are_one_line(run, binding, words):
    code, out, err = run(f"--gin_param=nas_search.Nas.{binding}")
    assert (code, out) == (Status.MISTAKE, "")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        ("objective = @toy_nas.worth", "needs one of search.objectives"),
        ("space = @toy_nas.space_of_sizes()", "cannot hold networks that differ"),
        ("space = @toy_nas.space_with_invalid()", "random networks are not valid"),
    ],
)
def test_what_no_supernet_can_have_is_refused_first(
    run, commands, tmp_path, binding, words
):
    code, _, err = run(with_line(tmp_path, binding))
    assert (code, commands.calls) == (Status.MISTAKE, [])
    assert words in err


def test_evolution_can_have_it(run, tmp_path):
    line = with_line(tmp_path, "objective = @toy_nas.worth")
    code, _, err = run(line, "--method=evolution")
    assert code == Status.OK, err


def test_a_broken_stage_is_said(run, tmp_path):
    run()
    (tmp_path / "search" / "stages" / "trust.json").write_text("{")
    code, _, err = run()
    assert code == Status.MISTAKE
    assert "trust.json cannot be read" in err
    assert "its stage is done again" in err
