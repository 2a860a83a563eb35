"""What hosts read of each other, and what is no word of theirs."""

import time

import pytest

from common.errors import Restart, UserError
from launch.host.board import JOB, NEXT, Board, Replaced, host_name
from launch.host.others import Others
from launch.host.times import Times
from tests.support.fake_gcs.faults import Rule
from tests.support.own_bucket import own_bucket

TIMES = Times(tick=0.01, poll=0, beat=0.2, write=0, alone=0.5)
AWAY: list[Rule] = [{"do": "503"}]


@pytest.fixture(params=["disk", "bucket"])
def folder(request, tmp_path):
    if request.param == "disk":
        yield str(tmp_path / "run/launch")
        return
    with own_bucket(tmp_path, writes_per_second=0):
        yield "gs://bucket/run/launch"


def board(folder, name, others=(), submission="job-1", machines="m", times=TIMES):
    return Board(
        folder, name, others, submission=submission, machines=machines, times=times
    )


def test_each_hears_the_others(folder):
    leader = board(folder, JOB, [host_name(1)])
    follower = board(folder, host_name(1), [JOB])
    leader.post(want="run", life=1)
    leader.sync()
    follower.sync()
    assert follower.heard(JOB)["life"] == 1
    follower.post(state="serves", life=1)
    assert not follower.is_posted
    follower.sync()
    assert follower.is_posted
    leader.sync()
    assert leader.heard(host_name(1))["state"] == "serves"


def test_other_slices_and_submissions_are_not_heard(folder):
    leader = board(folder, JOB, [host_name(1)])
    for machines, submission in (("n", "job-1"), ("m", "job-2")):
        stranger = board(folder, host_name(1), (), submission, machines)
        stranger.post(life=1)
        stranger.sync()
        leader.sync()
        assert leader.heard(host_name(1)) == {}
        is_ours = submission == "job-1"
        assert bool(leader.heard_of_any(host_name(1))) == is_ours


def test_who_comes_later_has_the_place(folder):
    first = board(folder, host_name(1), [JOB])
    first.post(life=1)
    first.sync()
    second = board(folder, host_name(1), [JOB])
    assert second.before["life"] == 1
    second.post(life=2)
    second.sync()
    first.post(life=3)
    with pytest.raises(Replaced, match=r"another process writes .*host-1\.json"):
        first.sync()


def test_a_leader_hears_who_wants_to_lead_since_it_does(folder):
    candidate = board(folder, NEXT, machines="n")
    candidate.post(wants="to lead")
    candidate.sync()
    leader = board(folder, JOB, [NEXT])
    leader.sync()
    assert not leader.has_come(NEXT)
    time.sleep(TIMES.beat)
    candidate.sync()
    leader.sync()
    assert leader.has_come(NEXT)


def test_signs_of_life(folder):
    leader, follower = board(folder, JOB, ["host-1"]), board(folder, "host-1", [JOB])
    follower.post(life=1)
    follower.sync()
    leader.sync()
    time.sleep(TIMES.beat)
    leader.sync()
    assert leader.silent_seconds("host-1") >= TIMES.beat
    follower.sync()
    leader.sync()
    assert leader.silent_seconds("host-1") < TIMES.beat


def test_a_bucket_that_is_away_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("launch.host.stores._PATIENCE_SECONDS", 0.0)
    with own_bucket(tmp_path, writes_per_second=0) as store:
        host = board("gs://bucket/run/launch", host_name(1), [JOB])
        host.post(life=1)
        host.sync()
        store.faults = AWAY
        host.post(life=2)
        host.sync()
        assert not host.is_posted
        store.faults = []
        host.sync()
        assert host.is_posted
        assert host.silent_seconds(JOB) < 0.1  # nobody could give a sign
        store.faults = AWAY
        time.sleep(TIMES.alone)
        with pytest.raises(Restart, match=r"has not answered for \d s: .*503"):
            host.sync()


def test_an_answer_that_gets_lost_is_no_other_writer(tmp_path):
    with own_bucket(tmp_path, writes_per_second=0) as store:
        host = board("gs://bucket/run/launch", host_name(1))
        store.faults = [{"op": "insert", "do": "done_503", "times": 2}]
        for life in range(1, 4):
            host.post(life=life)
            host.sync()
            assert host.is_posted
        assert host.before == {}


def test_a_bucket_that_refuses_is_a_mistake(tmp_path):
    with own_bucket(tmp_path) as store:
        store.set_roles("bucket", ["objectViewer"])
        host = board("gs://bucket/run/launch", host_name(1))
        host.post(life=1)
        with pytest.raises(UserError, match="403"):
            host.sync()


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "[" * 99999])
def test_half_a_file_says_nothing(tmp_path, text):
    folder = tmp_path / "launch"
    folder.mkdir()
    (folder / "job.json").write_text(text)
    host = board(str(folder), host_name(1), [JOB])
    host.sync()
    assert host.heard(JOB) == {}
    leader = board(str(folder), JOB)
    assert leader.before == {}
    leader.post(life=1)
    leader.sync()
    assert leader.is_posted


@pytest.mark.parametrize(
    ("state", "status", "may_end", "is_late"),
    [
        ("starts", None, True, True),
        ("serves", None, False, False),
        ("ended", 0, True, False),  # a client on GPUs that was faster than the leader
        ("ended", 0, False, True),
        ("ended", 75, True, True),
    ],
)
def test_who_is_late(tmp_path, state, status, may_end, is_late):
    host = board(str(tmp_path), host_name(1))
    host.post(life=3, state=state, status=status, wants_end=False)
    host.sync()
    leader = board(str(tmp_path), JOB, [host_name(1)])
    leader.sync()
    others = Others(leader, 1, may_end=may_end)
    assert others.late(3) == [1] * is_late
    assert others.late(2) == [1]


def test_a_place_is_taken_whoever_has_written_there_since(folder):
    """As the host of a slice given up does, until it hears of the new one."""
    first = board(folder, host_name(1), machines="m")
    second = board(folder, host_name(1), machines="n")
    first.post(life=1)
    first.sync()
    second.post(life=2)
    second.sync()
    first.post(life=3)
    with pytest.raises(Replaced):
        first.sync()


def test_a_leader_does_not_write_over_one_that_leads_since(folder):
    first, second = board(folder, JOB), board(folder, JOB)
    second.post(life=2)
    second.sync()
    first.post(life=1)
    with pytest.raises(Replaced):
        first.sync()


def test_other_machines_give_no_sign_of_life(folder):
    host = board(folder, host_name(1), [JOB])
    stranger = board(folder, JOB, machines="n")
    time.sleep(0.1)
    stranger.post(life=1)
    stranger.sync()
    host.sync()
    assert host.silent_seconds(JOB) >= 0.1
    assert host.has_come(JOB) is False
