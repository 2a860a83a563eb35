"""The engines' own parsers take every example, and refuse what is wrong with one.

They are asked once, by one process, for all tests: SkyPilot takes 5 s to import.
"""

import copy
import json
import os
import subprocess

import pytest
import yaml

from common.errors import UserError
from launch.engines import checked, jobset, skypilot
from launch.job.host_job import HostJob
from tests.launch.engines.jobs import NASTY, example, nasty
from tests.support.job_files import EXAMPLES

NAMES = [path.stem for path in EXAMPLES]
POD = ("spec", "replicatedJobs", 0, "template", "spec", "template", "spec")
JOB = POD[:5]
# Where, what is put there, and what is said of it.
WRONG_MANIFESTS = {
    "a misspelt field of JobSet": (("spec", "failurePolcy"), {}, "failurePolcy"),
    "of its policy": (("spec", "failurePolicy", "maxRestart"), 1, "maxRestart"),
    "of the Job": ((*JOB, "backofLimit"), 0, "backofLimit"),
    "of the pod": ((*POD, "restartPolcy"), "Never", "restartPolcy"),
    "of the container": ((*POD, "containers", 0, "imag"), "x", "imag"),
    "an action": (("spec", "failurePolicy", "rules", 0, "action"), "Fail", "Fail"),
    "a reason": (
        ("spec", "failurePolicy", "rules", 0, "onJobFailureReasons"),
        ["PodFailure"],
        "PodFailure",
    ),
    "an operator": (("spec", "successPolicy", "operator"), "Every", "Every"),
    "a restart policy": ((*POD, "restartPolicy"), "Nevr", "Nevr"),
    "a status that is none": (
        (*JOB, "podFailurePolicy", "rules", 1, "onExitCodes", "values"),
        [300],
        "300",
    ),
    "a toleration": ((*POD, "tolerations", 0, "operator"), "Is", "Is"),
    "a quantity": (
        (*POD, "containers", 0, "resources", "limits", "google.com/tpu"),
        "four",
        "four",
    ),
    "a label": (("metadata", "labels", "job"), "-b0", "-b0"),
    "no image but a number": ((*POD, "containers", 0, "image"), 1, "image"),
}


def put(value, place, new):
    value = copy.deepcopy(value)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return value


def tasks(tmp_path):
    """The texts of all tasks that are asked about, by name."""
    found = {name: skypilot.render(example(name), "once") for name in NAMES}
    found["nasty"] = skypilot.render(nasty(tmp_path, "v5e_32"), "once")
    found["unknown field"] = found["v5e_32"].replace("num_nodes:", "nodes:")
    # What SkyPilot's parser takes, and should not.
    found["unknown recovery"] = found["v5e_32"].replace(
        "recover_on_exit_codes", "recover_on_exit_code"
    )
    found["unknown slice"] = found["v5e_32"].replace("v5litepod-32", "v5litepod-99")
    return found


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the checker says of everything here, by name."""
    texts = tasks(tmp_path_factory.mktemp("jobs"))
    manifests = {n: yaml.safe_load(jobset.render(example(n), "once")) for n in NAMES}
    for name, (place, new, _) in WRONG_MANIFESTS.items():
        manifests[name] = put(manifests["v5e_32"], place, new)
    answer = checked.ask(
        {"skypilot": list(texts.values()), "jobset": list(manifests.values())}
    )
    assert answer is not None, "these tests need the environment of: make launch"
    return {
        "skypilot": dict(zip(texts, answer["skypilot"], strict=True)),
        "jobset": dict(zip(manifests, answer["jobset"], strict=True)),
        "versions": answer["versions"],
    }


@pytest.fixture
def told(answers, monkeypatch):
    """Let `checked` hear the answer of a name, without asking again."""

    def tell(engine, name):
        answer = {engine: [answers[engine][name]], "versions": answers["versions"]}
        monkeypatch.setattr(checked, "ask", lambda request: answer)

    return tell


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_taken_by_both(told, name):
    job = example(name)
    told("skypilot", name)
    text = skypilot.render(job, "once")
    assert skypilot.check(text, job) == "SkyPilot 0.14.1's own parser"
    told("jobset", name)
    text = jobset.render(job, "once")
    who = "the schemas of JobSet v1alpha2 and Kubernetes 1.37.0"
    assert jobset.check(text, job) == who


def test_skypilot_hands_on_the_very_text(answers):
    envs = answers["skypilot"]["nasty"]["understood"]["envs"]
    told = HostJob.from_environment(envs)
    assert told.model_dir == told.data_dir == NASTY


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unknown field", "SkyPilot's parser would not take .*nodes"),
        ("unknown recovery", "of the task's resources"),
        ("unknown slice", "of the task's resources"),
    ],
)
def test_a_task_that_means_something_else_is_refused(told, name, said):
    told("skypilot", name)
    job = example("v5e_32")
    with pytest.raises(UserError, match=said):
        skypilot.check(skypilot.render(job, "once"), job)


@pytest.mark.parametrize("name", WRONG_MANIFESTS)
def test_a_wrong_manifest_is_refused(told, name):
    told("jobset", name)
    job = example("v5e_32")
    with pytest.raises(UserError, match=WRONG_MANIFESTS[name][2]) as caught:
        jobset.check(jobset.render(job, "once"), job)
    assert "would not take what was rendered" in str(caught.value)


def test_without_the_environment_nobody_checks(monkeypatch, tmp_path):
    monkeypatch.setattr(checked, "PYTHON", tmp_path / "python")
    job = example("v5e_32")
    assert skypilot.check(skypilot.render(job, "once"), job) is None
    assert jobset.check(jobset.render(job, "once"), job) is None


def test_an_environment_that_is_broken_says_so(monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho ImportError: sky >&2\n")
    python.chmod(0o755)
    monkeypatch.setattr(checked, "PYTHON", python)
    job = example("v5e_32")
    with pytest.raises(UserError, match=r"failed \(ImportError: sky\): delete"):
        jobset.check(jobset.render(job, "once"), job)


# Prints what the command line of SkyPilot does not know of the words that it is given.
COMMAND_LINE = """
import json, sys
import click, yaml
from sky.client.cli.command import cli
from sky.utils import common_utils, schemas
asked = json.load(sys.stdin)
common_utils.validate_schema(asked["config"], schemas.get_config_schema(), "config: ")
for group, verb, *words in asked["commands"]:
    command = cli.commands[group].commands[verb]
    try:
        command.make_parser(click.Context(command)).parse_args(words)
    except click.UsageError as error:
        print(verb, error.message)
"""


@pytest.mark.slow  # 2 s more of SkyPilot's imports
def test_skypilots_command_line_knows_what_it_is_told(tmp_path):
    job = example("v5e_32")
    told = skypilot.submit(job, "once")
    plans = (told, skypilot.status(job), skypilot.logs(job), skypilot.down(job))
    commands = [list(one.words[1:]) for plan in plans for one in plan.commands]
    commands = [words for words in commands if words[0] == "jobs"]
    assert [words[1] for words in commands] == [
        *("launch", "queue", "logs", "logs", "cancel")
    ]
    asked = {
        "commands": [*commands, ["jobs", "logs", "--no-such-flag"]],
        "config": yaml.safe_load(told.files["config.yaml"]),
    }
    ended = subprocess.run(
        [checked.PYTHON, "-c", COMMAND_LINE],
        input=json.dumps(asked),
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "logs No such option: --no-such-flag\n"
