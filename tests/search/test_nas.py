"""`python -m search.nas`, as a person runs it, stops it and runs it again.

The commands that it starts are arithmetic here, see `tests.support.toy_nas`.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from common.errors import Restart, Status, UserError
from search import nas
from search.latencies import source_kinds
from search.stages import children
from search.supernets import cost_parts
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
        *("search.stages.check", "train.main", "search.stages.score"),
        *("search.blocks", "search.blocks"),
        *["train.main"] * 6,
        *("search.stages.recipe", "train.export"),
    ]
    heads = [line.split(":")[0] for line in out.splitlines()]
    assert list(dict.fromkeys(heads)) == [
        f"{number}/7 {name}" for number, name in enumerate(STAGES, start=1)
    ]
    assert re.search(r"^1/7 supernet: \d\.\d s in its last life$", out, re.MULTILINE)
    found = stage(tmp_path, "found")
    assert 0 < found["wall_seconds"] < 60
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


@pytest.mark.parametrize("module", toy_nas.MODULES)
def test_it_goes_on_where_it_was_stopped(run, tmp_path, commands, module):
    commands.trouble[module] = Restart("stopped")
    assert run()[0] == Status.RESTART
    commands.trouble.clear()
    before = len(commands.calls)
    code, out, _ = run()
    assert code == Status.OK
    # What was done stays so: the one command that was stopped is run once more.
    assert len(commands.calls) == 14
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


def test_the_supernet_may_be_trained_elsewhere(run, tmp_path, commands):
    code, out, _ = run("--stop_before=supernet")
    assert (code, commands.calls) == (Status.OK, [])
    preflight, train = (line.split(": ", 2)[2] for line in out.splitlines())
    gin_file = f"--gin_file={tmp_path}/search/gin/supernet.gin"
    assert preflight.startswith("python -m preflight --gin_file=")
    assert preflight.endswith(f"{gin_file} --topology=v3:4x4")
    model_dir = f"--model_dir={tmp_path}/search/supernet"
    assert train.startswith("python -m train.main --gin_file=")
    assert train.endswith(f"{gin_file} {model_dir}")
    assert not (tmp_path / "search/supernet").exists()
    assert run("--stop_before=final")[0] == Status.OK
    assert "search.stages.recipe" not in commands.calls
    assert stage(tmp_path, "trust")["networks"] == 8


def test_a_stage_that_is_not_in_the_plan(run):
    code, _, err = run("--stop_before=random", "--no_random")
    assert code == Status.MISTAKE
    assert "--stop_before=random: the stages of this search are supernet, found" in err


def test_a_source_that_was_not_there_is_asked_again(run, tmp_path, monkeypatch):
    """As a compiler that is installed later."""

    def absent(source):
        raise UserError("the compiler is not installed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_kinds.Function, "noted_conditions", absent)
        code, out, _ = run()
    assert code == Status.OK
    assert out.count("no answer: the compiler is not installed") == 6
    code, out, _ = run()
    assert (code, "no answer" in out) == (Status.OK, False)


def test_what_a_source_could_not_say_is_asked_again(
    run, tmp_path, commands, monkeypatch
):
    asked = []

    def slower(variant):
        asked.append(variant.name)
        if len(asked) in (2, 3):  # random search's best, and the recipe's own
            raise TimeoutError("late")
        return 1.5

    monkeypatch.setattr(toy_nas, "slower", slower)
    code, out, _ = run()
    assert code == Status.OK
    assert out.count("no answer: late") == 2
    before = len(commands.calls)
    code, out, _ = run()
    assert (code, "no answer" in out) == (Status.OK, False)
    # It keeps the answer that it had.
    assert asked[3:] == asked[1:3]
    rows = stage(tmp_path, "latency")["rows"]
    assert [row["ms"] for row in rows if row["role"] == "exact"] == [1.5] * 3
    run()
    assert (len(asked), len(commands.calls)) == (5, before)


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


def test_random_networks_that_fail_are_left_out_and_said(run, tmp_path, commands):
    commands.failing = {1: "diverged: in step 9", 6: "does not fit in memory"}
    code, out, _ = run()
    assert code == Status.OK
    trust, scores = stage(tmp_path, "trust"), stage(tmp_path, "scores")
    lost = [list(scores["networks"])[number] for number in (1, 6)]
    assert trust["missing"] == 2
    assert [row["network"] for row in trust["rows"]] == [
        one for one in scores["networks"] if one not in lost
    ]
    assert trust["networks"] == 6
    assert "2 more have failed" in out
    assert "13 evaluated, 2 failed" in out  # what failed cost nothing


@pytest.mark.parametrize("summary", [None, "{", '{"ema_top1": null}'])
def test_a_final_training_without_a_score_is_said(run, tmp_path, commands, summary):
    """As where somebody has removed its summary: in one line, and mended by it."""
    usual = commands.run
    folder = tmp_path / "search" / "final" / "random-seed-0"

    def without(arguments, *rest, **more):
        printed = usual(arguments, *rest, **more)
        if f"--model_dir={folder}" in arguments:
            (folder / "summary.json").unlink()
            if summary is not None:
                (folder / "summary.json").write_text(summary)
        return printed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(children, "run", without)
        code, _, err = run()
    assert code == Status.MISTAKE
    assert err.splitlines()[-1].startswith(f"error: {folder}/summary.json has no ema_")
    assert "Traceback" not in err
    shutil.rmtree(folder)
    assert run()[0] == Status.OK


def test_random_search_that_finds_nothing_is_no_mistake(run, tmp_path, commands):
    """As search.blocks ends with 1 then: what the supernet has found is still there."""
    commands.failing[None] = "diverged: in step 9"
    code, out, _ = run()
    assert code == Status.OK
    assert "8 evaluated, 8 failed" in out
    assert "no network has a value: diverged: in step 9" in out
    assert "NOT KNOWN whether the supernet's ranking is worth anything" in out
    assert set(stage(tmp_path, "final")["means"]) == {"found", "baseline"}


def test_evolution_that_finds_nothing(run, commands):
    commands.failing[None] = "diverged: in step 9"
    code, _, err = run("--method=evolution")
    assert code == Status.MISTAKE
    assert "has a value: diverged: in step 9" in err.splitlines()[-1]
    assert "name another folder" in err.splitlines()[-1]


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
    assert commands.calls[1:3] == ["search.blocks", "search.blocks"]
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


def test_a_folder_that_was_moved_goes_on_behind_a_link(run, tmp_path, commands):
    """Its configs name files by its path: `costs` and the table, and so do its runs."""
    commands.trouble["search.blocks"] = Restart("stopped")
    old, new = tmp_path / "search", tmp_path / "a moved one"
    assert run()[0] == Status.RESTART
    old.rename(new)
    before = len(commands.calls)
    code, _, err = run(folder=new)
    assert (code, len(commands.calls)) == (Status.MISTAKE, before)
    line = err.splitlines()[-1]
    assert line.startswith(f"error: {new} was begun as {old}, and its configs and runs")
    assert f"ln -s '{new}' {old})" in line
    old.symlink_to(new)
    assert run(folder=new)[0] == Status.OK
    train = commands.calls.count("train.main")
    assert train == 1 + 6  # the supernet was not trained again
    assert stage(tmp_path, "final")["rows"][0]["model_dir"].startswith(f"{old}/")
    assert run()[0] == Status.OK  # by the link itself
    assert commands.calls.count("train.main") == train


def test_a_copy_of_a_folder_is_none_to_go_on_in(run, tmp_path, commands):
    run()
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "search", copy)
    code, _, err = run(folder=copy)
    assert code == Status.MISTAKE
    assert f"{copy} is a copy of {tmp_path / 'search'}" in err


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
        ("space = @toy_nas.space_with_invalid()", "1 of 2 networks are not valid"),
    ],
)
def test_what_no_supernet_can_have_is_refused_first(
    run, commands, tmp_path, binding, words
):
    code, _, err = run(with_line(tmp_path, binding))
    assert (code, commands.calls) == (Status.MISTAKE, [])
    assert words in err


def test_too_many_combinations_are_refused_first(run, commands, monkeypatch):
    monkeypatch.setattr(cost_parts, "MOST_COMBINATIONS", 10)
    code, _, err = run()
    assert (code, commands.calls) == (Status.MISTAKE, [])
    assert "combinations of choices, more than 10" in err


def test_what_the_trainings_would_refuse_is_refused_first(run, tmp_path, commands):
    commands.trouble["search.stages.check"] = UserError("no such data (see log)")
    code, _, err = run()
    assert (code, commands.calls) == (Status.MISTAKE, ["search.stages.check"])
    assert err.splitlines()[-1] == "error: no such data (see log)"
    assert run()[0] == Status.OK
    assert commands.calls.count("search.stages.check") == 2
    run("--seeds=3")
    assert commands.calls.count("search.stages.check") == 2


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
