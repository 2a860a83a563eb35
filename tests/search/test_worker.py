"""Evaluations in a process apart: whatever becomes of it costs one result."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from common.errors import Status, UserError
from search.engine import storages
from search.engine.evaluator import Evaluator, Stopped, group_bytes
from search.engine.result_files import read
from search.engine.store import Watch
from search.engine.study import end_expired
from search.engine.worker import Order
from tests.support.toy_search import CONFIG


@pytest.fixture
def evaluator(tmp_path):
    """Function: settings of the toy, limits -> an Evaluator."""
    made = []

    def make(accuracy="accuracy", config="", **limits):
        text = f"{CONFIG}\nblock_search.BlockSearch.accuracy = @toy_search.{accuracy}\n"
        known = {"seconds": 60.0, "memory_gb": None, "per_process": 100}
        known |= {
            "folder": tmp_path,
            "log": tmp_path / "logs/w.txt",
            "is_stopped": lambda: False,
        }
        made.append(Evaluator(text + config, **{**known, **limits}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def wait_until(holds):
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.01)


def lives(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except OSError:
        return False


def test_failures_of_every_kind_cost_one_result_each(evaluator):
    one = evaluator("trouble")
    pids, reasons = [], []
    for network in (
        "0-1-0-0-0-0",
        "1-0-0-0-0-0",
        "2-0-0-0-0-0",
        "3-0-0-0-0-0",
        "4-0-0-0-0-0",
        "0-2-0-0-0-0",
        "no network",
    ):
        answer = one.evaluate(network, 0)
        pids.append(one._process and one._process.pid)
        reasons.append(answer["reason"])
        assert answer["seconds"] >= 0
        assert (answer.get("value") is None) == bool(answer["reason"])
    assert reasons == [
        "",
        "ZeroDivisionError: a person's own function",
        "killed by signal 9, perhaps for want of memory",
        "diverged in step 7: nan",
        "its process ended with status 3: the last words",
        "",
        "ValueError: invalid literal for int() with base 10: 'no network'",
    ]
    # It is used again as long as it lives.
    assert pids[0] == pids[1]
    assert pids[2] is pids[4] is None
    assert pids[5] == pids[6] != pids[0]


def test_an_error_without_a_message_says_where(evaluator):
    reason = evaluator("silent").evaluate("0-1-0-0-0-0", 0)["reason"]
    assert re.fullmatch(
        r"ValueError without a message, raised by silent \(toy_search.py, line \d+\)",
        reason,
    )


def test_what_an_answer_holds(evaluator):
    answer = evaluator().evaluate("0-1-2-0-0-0", 2)
    assert answer.pop("seconds") < 60
    # 2 x 1 + 3 x 2 over 2, 10 for each rung; 1 + 3 ms.
    assert answer == {
        "value": 23.96,
        "top1": [24.0],
        "ms": 4.0,
        "sources": ["toy %", "toy ms"],
        "reason": "",
    }


def test_a_process_makes_room_for_a_fresh_one(evaluator):
    one = evaluator(per_process=2)
    pids = []
    for _ in range(4):
        assert one.evaluate("0-1-0-0-0-0", 0)["reason"] == ""
        pids.append(one._process and one._process.pid)
    assert pids[1] is pids[3] is None
    assert pids[0] != pids[2]


def test_out_of_time(evaluator):
    one = evaluator("hang", seconds=0.5)
    assert one.evaluate("0-1-0-0-0-0", 0)["reason"] == "out of time: more than 0.5 s"
    assert one._process is None


@pytest.mark.parametrize("accuracy", ["hog", "hog_below", "hog_apart"])
def test_out_of_memory(evaluator, accuracy):
    answer = evaluator(accuracy, memory_gb=0.25).evaluate("0-1-0-0-0-0", 0)
    assert answer["reason"].startswith("out of memory: 0.")
    assert answer["reason"].endswith(" GB of 0.25 GB")


def test_a_group_s_memory_is_that_of_its_processes():
    own = group_bytes(os.getpgid(0))
    status = Path("/proc/self/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0]) * 1024
    assert own >= 0.9 * resident
    assert group_bytes(2**30) == 0


def test_a_mistake_in_the_settings_is_no_result(evaluator):
    one = evaluator(config="block_search.BlockSearch.lag = 0\n")
    with pytest.raises(UserError, match=r"evaluations cannot begin: .*lag = 0"):
        one.evaluate("0-1-0-0-0-0", 0)


def test_a_process_that_cannot_start_is_no_result(evaluator):
    code = "import sys; sys.stdin.readline(); sys.exit('no such module')"
    one = evaluator(command=[sys.executable, "-c", code])
    with pytest.raises(UserError, match="ended with status 1: no such module"):
        one.evaluate("0-1-0-0-0-0", 0)


def test_what_is_no_json(evaluator):
    code = "print('{}'); print('garbage'); input(); input()"
    one = evaluator(command=[sys.executable, "-uc", code])
    reason = one.evaluate("0-1-0-0-0-0", 0)["reason"]
    assert reason == "its process answered with what is no JSON"


def test_stopping_ends_all_that_was_started(evaluator):
    stop = threading.Event()
    one = evaluator("hog_below", is_stopped=stop.is_set)
    error = []

    def evaluate():
        try:
            one.evaluate("0-1-0-0-0-0", 0)
        except Stopped as stopped:
            error.append(stopped)

    thread = threading.Thread(target=evaluate)
    thread.start()
    wait_until(lambda: one._process and group_bytes(one._process.pid) > 400e6)
    group = one._process.pid
    stop.set()
    thread.join()
    assert len(error) == 1
    wait_until(lambda: group_bytes(group) == 0)


# -- the process --------------------------------------------------------------------


class Process:
    """A worker's process."""

    def __init__(self, folder, config=CONFIG, **changes):
        known = {"storage": "folder", "study": "", "evaluations": 4}
        self.order = Order(folder=str(folder), config=config, **{**known, **changes})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "search.engine.worker"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        self.stdin = self.process.stdin
        self.stdin.write(json.dumps(vars(self.order)) + "\n")
        self.stdin.flush()

    def end(self, timeout=60):
        """Wait for it without closing its input; return status and what it said."""
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            status = self.process.wait(timeout)
            self.stdin.close()
            return status, stderr.read()


HANGING = CONFIG.replace("@toy_search.accuracy", "@toy_search.hang")


def evaluating(worker):
    """The process that a worker has started; None until it has a network."""
    children = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children")
    found = children.read_text().split()
    return int(found[0]) if found else None


def hanging(folder):
    """A worker in the middle of an evaluation, and that one's process."""
    worker = Process(folder, HANGING)
    wait_until(lambda: list(folder.glob("leases/000000-1")) and evaluating(worker))
    return worker, evaluating(worker)


def test_a_worker_works_until_all_is_done(tmp_path):
    status, said = Process(tmp_path).end()
    assert (status, said) == (0, "")
    assert [result.number for result in read(tmp_path)] == [0, 1, 2, 3]
    assert list(tmp_path.glob("leases/*")) == []


def test_a_worker_gives_back_what_it_has_when_its_master_ends(tmp_path):
    worker, child = hanging(tmp_path)
    worker.stdin.close()
    assert worker.end() == (0, "")
    wait_until(lambda: not lives(child))
    sight = storages.open_store("folder", tmp_path, "").look()
    assert (sight.leases, sight.deaths, dict(sight.results)) == ((), {}, {})


def test_a_killed_worker_takes_its_evaluation_along(tmp_path):
    worker, child = hanging(tmp_path)
    worker.process.kill()
    assert worker.end() == (-9, "")
    wait_until(lambda: not lives(child))
    store = storages.open_store("folder", tmp_path, "")
    assert [lease.number for lease in store.look().leases] == [0]
    end_expired(store.look(), store, Watch(1e9), tmp_path)
    assert store.look().deaths == {0: 1}


def test_a_mistake_ends_a_worker_with_2(tmp_path):
    config = CONFIG + "\nblock_search.BlockSearch.no_such_thing = 1\n"
    status, said = Process(tmp_path, config).end()
    assert status == Status.MISTAKE
    assert said.startswith("error: ")
    assert "no_such_thing" in said
    assert said.count("\n") == 1


def test_neither_worker_nor_evaluation_imports_a_framework():
    code = (
        "import sys\n"
        "from search.engine import engine_optuna, evaluation, worker\n"
        "from search import config, block_search\n"
        "from tests.support.toy_search import CONFIG\n"
        "config.read_text(block_search.BlockSearch, CONFIG)\n"
        "print([m for m in ('tensorflow', 'keras', 'jax') if m in sys.modules])\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout == "[]\n", said.stderr
