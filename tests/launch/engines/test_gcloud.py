"""The printed scripts, run against machines that do not answer, or not yet."""

import pytest

from launch.engines import gcloud
from tests.launch.engines.jobs import example
from tests.launch.engines.stubs import Stubs

_NOBODY_ANSWERS = "sys.exit(255 if {'ssh', 'scp'} & set(sys.argv) else 0)"
_THE_THIRD_TIME = """
if "describe" in sys.argv:
    print("ACTIVE")
if "scp" in sys.argv:
    tries = home / "tries"
    tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
    sys.exit(len(tries.read_text()) < 3)
"""


@pytest.fixture
def stubs(tmp_path):
    found = Stubs(tmp_path)
    found.add("sleep")
    return found


@pytest.mark.parametrize(
    ("name", "deletes"),
    [
        ("v5e_32", ["tpus", "queued-resources", "delete", "b0-v5e-32-q"]),
        ("gpu_2x8", ["instances", "delete", "b0-gpu-2x8-0", "b0-gpu-2x8-1"]),
    ],
)
def test_down_deletes_what_bills_though_no_host_answers(stubs, name, deletes):
    stubs.add("gcloud", _NOBODY_ANSWERS)
    ended = stubs.bash(gcloud.down(example(name)))
    assert ended.returncode == 0
    assert "does not answer" in ended.stderr
    assert stubs.words(of="gcloud")[-1][2 : 2 + len(deletes)] == deletes


def test_status_shows_the_machines_though_their_request_is_gone(stubs):
    stubs.add("gcloud", "sys.exit('describe' in sys.argv)")
    stubs.bash(gcloud.status(example("v5e_32")))
    assert [words[4] for words in stubs.words(of="gcloud")] == ["describe", "list"]


def test_new_machines_take_a_while_to_answer(stubs):
    stubs.add("gcloud", _THE_THIRD_TIME)
    assert stubs.bash(gcloud.render(example("v5e_32"), "once")).returncode == 0
    verbs = [words[4] for words in stubs.words(of="gcloud")]
    assert verbs == ["create", "describe", "scp", "scp", "scp", "ssh"]


def test_machines_that_never_answer_are_said_to_bill(stubs):
    stubs.add("gcloud", _NOBODY_ANSWERS)
    ended = stubs.bash(gcloud.render(example("gpu_8"), "once"))
    assert ended.returncode == 1
    assert "they bill: python -m launch.job down --to=gcloud" in ended.stderr
    assert not any("ssh" in words for words in stubs.words(of="gcloud"))
