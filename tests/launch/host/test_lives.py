"""How the lives of a job end, and when another begins: a row a case.

Host scripts, workers and clients are processes; what they are told comes by the board.
"""

import contextlib
import json
import re
import signal
import subprocess
import time

import pytest

from tests.support import slices
from tests.support.watched_bucket import watched_bucket

SECONDS = 40


@contextlib.contextmanager
def running(tmp_path, plan, machines="tpu", **changes):
    """Start a job whose clients do what is planned, a line of words for each host."""
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    for number, words in enumerate(plan):
        (run / f"plan-{number}").write_text(words)
    job = slices.job(model_dir=str(run), machines=machines, **changes)
    environment = {"CLIENT": slices.PLANNED_CLIENT}
    with (
        (tmp_path / "said").open("a") as said,
        slices.running(job, environment, said) as made,
    ):
        yield made


def events(tmp_path):
    path = tmp_path / "run/events"
    return path.read_text().splitlines() if path.exists() else []


def await_event(tmp_path, line, times=1):
    until = time.monotonic() + SECONDS
    while events(tmp_path).count(line) < times:
        assert time.monotonic() < until, (tmp_path / "said").read_text()
        time.sleep(0.02)


def said(tmp_path, host=0):
    """What a host has said of its lives."""
    return re.findall(rf"host {host} of \d+: (.*)\n", (tmp_path / "said").read_text())


def await_line(tmp_path, line):
    until = time.monotonic() + SECONDS
    while line not in said(tmp_path):
        assert time.monotonic() < until, (tmp_path / "said").read_text()
        time.sleep(0.02)


def board(tmp_path):
    return json.loads((tmp_path / "run/launch/job.json").read_text())


@pytest.mark.parametrize("status", [0, 1, 2, 130])
def test_what_ends_the_client_for_good_ends_all_hosts(tmp_path, status):
    hosts = 2 if status in (0, 2) else 1
    with running(tmp_path, [f"75 {status}"], hosts=hosts) as made:
        assert made.statuses() == {status}
    workers = f"workers on {hosts} host{'s' * (hosts - 1)}"
    first, *lives, last, end = said(tmp_path)
    assert first == f"life 1: {workers}"
    # A busy machine may need another life: one host is not there yet, or no more.
    assert lives
    for number, line in enumerate(lives, start=1):
        ended = f"life {number} has ended with 75: again in "
        assert re.fullmatch(rf"{ended}[\d.]+ s", line)
    assert last == f"life {len(lives) + 1}: {workers}"
    assert end == f"the client has ended with {status}: so do all hosts"
    assert board(tmp_path)["want"] == "end"


def test_lives_without_a_checkpoint_are_counted(tmp_path):
    with running(tmp_path, ["75 train kill 75 kill"], hosts=1) as made:
        assert made.statuses() == {1}
    assert [line for line in said(tmp_path) if "workers" not in line] == [
        "life 1 has ended with 75: again in 0.1 s",
        "life 2 has ended with 75: again in 0.05 s",
        "life 3 has ended with 137: again in 0.1 s",
        "life 4 has ended with 75: again in 0.1 s",
        "3 lives brought no checkpoint; the newest checkpoint: of step 2,000; ending "
        "with 1",
    ]


@pytest.mark.long
def test_the_budget_is_of_the_submission(tmp_path):
    """It counts from the first start, on whatever machines."""
    with running(tmp_path, ["wait"], hosts=1) as made:
        await_event(tmp_path, "0 waits")
        made.kill()
    path = tmp_path / "run/launch/job.json"
    found = board(tmp_path)
    path.write_text(json.dumps(found | {"first_start": time.time() - 3594}))
    with running(tmp_path, ["wait"], hosts=1) as made:
        assert made.statuses() == {0}
    assert events(tmp_path)[-1] == "0 saves"
    assert said(tmp_path)[-2:] == [
        "the budget of 1 h is spent: the client is to save and end",
        "budget of 1 h spent; the newest checkpoint: there is none; ending",
    ]


@pytest.mark.parametrize("host", [0, 1])
def test_sigterm_to_a_host_saves_and_ends_all_with_75(tmp_path, host):
    with running(tmp_path, ["wait 0"]) as made:
        await_event(tmp_path, "0 waits")
        made.hosts[host].send_signal(signal.SIGTERM)
        assert made.statuses() == {75}
        assert events(tmp_path)[-1] == "0 saves"
        # The engine starts all of them anew.
        for number in made.hosts:
            made.start(number)
        assert made.statuses() == {0}
    who = "SIGTERM" if host == 0 else "SIGTERM of host 1"
    assert f"{who}: ending with 75" in said(tmp_path)
    assert board(tmp_path)["life"] == 2


@pytest.mark.parametrize("host", [0, 1])
def test_the_client_saves_through_workers_that_hear_sigterm_too(tmp_path, host):
    """As all processes do of a machine that goes away, by its systemd."""
    with running(tmp_path, ["wait 0"]) as made:
        await_event(tmp_path, "0 waits")
        for pid in reversed(made.pids(host)):
            slices.send(pid, signal.SIGTERM)
        assert made.statuses() == {75}
    assert events(tmp_path)[-1] == "0 saves"


@pytest.mark.parametrize("host", [0, 1])
@pytest.mark.long
def test_a_host_that_is_killed_and_started_again(tmp_path, host):
    """Its children die with it, and it takes part in the next life."""
    with running(tmp_path, ["wait 0"]) as made:
        await_event(tmp_path, "0 waits")
        _, *below = made.pids(host)
        made.hosts[host].kill()
        made.hosts[host].wait()
        until = time.monotonic() + SECONDS
        while any(slices.is_running(pid) for pid in below):
            assert time.monotonic() < until
        made.start(host)
        assert made.statuses() == {0}
    assert board(tmp_path)["life"] == 2
    if host == 1:
        assert "host 1 has lost what the client needs" in said(tmp_path)


def test_a_submission_that_has_ended_does_not_begin_again(tmp_path):
    with running(tmp_path, ["0"]) as made:
        assert made.statuses() == {0}
        for number in made.hosts:
            made.start(number)
        assert made.statuses() == {0}
    assert said(tmp_path)[-1] == "this submission has ended with 0 before"
    assert events(tmp_path) == ["0 starts"]
    with running(tmp_path, ["2"], submission="job-2") as made:
        assert made.statuses() == {2}


@pytest.mark.long
def test_hosts_that_do_not_serve_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ANSWER", "2")
    with running(tmp_path, ["0"]) as made:
        made.hosts[1].kill()
        assert made.hosts[0].wait(SECONDS) == 75
    assert said(tmp_path) == ["host 1 does not serve within 2 s: ending with 75"]


@pytest.mark.parametrize("has_led", [False, True])
@pytest.mark.long
def test_a_host_without_a_leader_ends(tmp_path, monkeypatch, has_led):
    monkeypatch.setenv("ALONE", "3" if has_led else "1")
    with running(tmp_path, ["wait"]) as made:
        if has_led:
            await_event(tmp_path, "0 waits")
        made.hosts[0].kill()
        assert made.hosts[1].wait(SECONDS) == 75
    text = (tmp_path / "said").read_text()
    has_begun = "life 1: starting" in text  # it was quick: else it may wait for a place
    seconds = 3 if has_led else 1 if has_begun else 2
    assert f"no sign of host 0 for {seconds} s" in text


def test_clients_on_gpus(tmp_path):
    """Each host has one; what one of them says is the status of all."""
    with running(tmp_path, ["75 environment", "75 environment"], "gpu") as made:
        assert made.statuses() == {0}
        told = [json.loads(line[2:]) for line in events(tmp_path) if "{" in line]
    configs = [json.loads(one["TF_CONFIG"]) for one in told]
    assert {one["task"]["index"] for one in configs} >= {0}
    for one in configs:
        assert one["cluster"] == {"worker": made.addresses}
    assert {one["TPU_NAME"] for one in told} == {None}


def test_a_mistake_on_one_of_gpus_ends_all(tmp_path):
    with running(tmp_path, ["75", "2"], "gpu") as made:
        assert made.statuses() == {2}


def test_what_the_client_of_a_slice_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://nowhere")
    monkeypatch.setenv("no_proxy", "x.org")
    with running(
        tmp_path, ["environment"], gin_files=("a.gin",), gin_params=("b.c = 'd $(e)'",)
    ) as made:
        assert made.statuses() == {0}
    told = json.loads(events(tmp_path)[1][2:])
    assert told == {
        "TPU_NAME": ",".join(f"grpc://{one}" for one in made.addresses),
        "TPU_LOAD_LIBRARY": "0",
        "TF_CONFIG": None,
        "no_proxy": "x.org,127.0.0.1,localhost",
        "flags": [
            "--gin_file=a.gin",
            "--gin_param=b.c = 'd $(e)'",
            "--gin_param=experiment.Experiment.data_dir = 'gs://bucket/data'",
            f"--model_dir={tmp_path / 'run'}",
        ],
    }


@pytest.mark.long
def test_another_submission_leaves_a_job_alone(tmp_path, monkeypatch):
    """Its host 0 ends with 2; the others, which wait for it, have said nothing."""
    with running(tmp_path, ["wait"]) as made:
        await_event(tmp_path, "0 waits")
        monkeypatch.setenv("ALONE", "2")
        with running(tmp_path, ["wait"], submission="job-2") as other:
            assert other.hosts[0].wait(SECONDS) == 2
            assert other.hosts[1].poll() is None
        assert [one.poll() for one in made.hosts.values()] == [None, None]
    assert events(tmp_path) == ["0 starts", "0 waits"]


@pytest.mark.long
def test_all_hosts_hear_of_an_end_that_the_bucket_takes_later(tmp_path):
    with (
        watched_bucket(tmp_path) as (store, _, environment),
        (tmp_path / "said").open("w") as text,
    ):
        environment |= {"CLIENT": "-c __import__('time').sleep(2)"}
        with slices.running(slices.job(), environment, text) as made:
            await_line(tmp_path, "life 1: workers on 2 hosts")
            store.faults = [{"op": "insert", "do": "503"}]
            await_line(tmp_path, "the client has ended with 0: so do all hosts")
            with pytest.raises(subprocess.TimeoutExpired):
                made.hosts[0].wait(4)
            store.faults = []
            assert made.statuses() == {0}
