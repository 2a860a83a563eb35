import pytest
import tensorflow as tf

from common.errors import UserError
from train.telemetry import profiler


@pytest.fixture
def calls(monkeypatch):
    """What is asked of TensorFlow's profiler, which does nothing."""
    calls = []
    real = tf.profiler.experimental
    monkeypatch.setattr(real, "start", lambda folder: calls.append("start"))
    monkeypatch.setattr(real, "stop", lambda: calls.append("stop"))
    return calls


def train(shown, step, stop, calls):
    """The trainer's loops of up to 100 steps; notes those that were run."""
    shown.update(step)
    while step < stop:
        step = shown.bound(step, min(step + 100, stop))
        calls.append(step)
        shown.update(step)


def test_loops_end_where_the_profile_does(calls):
    with profiler.Profiler("somewhere", (120, 150)) as shown:
        train(shown, 0, 300, calls)
    assert calls == [100, 120, "start", 150, "stop", 250, 300]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (120, ["start", 150, "stop", 170]),
        (140, ["start", 150, "stop", 170]),
        (150, [170]),
        (160, [170]),
    ],
)
def test_a_run_that_resumes_profiles_what_is_left(calls, step, expected):
    with profiler.Profiler("somewhere", (120, 150)) as shown:
        train(shown, step, 170, calls)
    assert calls == expected


def test_a_run_that_ends_or_goes_back_stops_the_profile(calls):
    with profiler.Profiler("somewhere", (5, 10)) as shown:
        train(shown, 0, 7, calls)
    assert calls == [5, "start", 7, "stop"]
    calls.clear()
    with profiler.Profiler("somewhere", (5, 10)) as shown:
        shown.update(6)
        train(shown, 2, 12, calls)  # and there is no second one
    assert calls == ["start", "stop", 5, 10, 12]


def test_only_one_of_several_processes_profiles(calls):
    with profiler.Profiler("somewhere", (120, 150), writes=False) as shown:
        train(shown, 0, 300, calls)
    assert calls == [100, 120, 150, 250, 300]


def loop_ends(shown, step, stop):
    """The ends of the trainer's loops, as `bound` gives them."""
    ends = []
    while step < stop:
        step = shown.bound(step, min(step + 100, stop))
        ends.append(step)
    return ends


def test_all_processes_end_their_loops_alike_whatever_becomes_of_the_profile(
    calls, monkeypatch
):
    expected = [100, 120, 150, 250, 300]
    done = profiler.Profiler("somewhere", (120, 150))
    cannot_start = profiler.Profiler("somewhere", (120, 150))
    given_up = profiler.Profiler("somewhere", (120, 150))
    other = profiler.Profiler("somewhere", (120, 150), writes=False)
    for shown in (done, given_up, other):
        shown.update(120)
    done.update(150)
    assert calls == ["start", "start", "stop"]

    def fail(*_):
        raise tf.errors.UnavailableError(None, None, "no")

    monkeypatch.setattr(tf.profiler.experimental, "start", fail)
    monkeypatch.setattr(tf.profiler.experimental, "stop", fail)
    cannot_start.update(120)
    given_up.update(150)
    other.update(150)
    for shown in (done, cannot_start, given_up, other):
        assert loop_ends(shown, 0, 300) == expected
        assert loop_ends(shown, 130, 170) == [150, 170]
        assert shown.bound(120, 150) == 150
        assert shown.bound(119, 121) == 120


def test_no_profile(calls):
    with profiler.Profiler("somewhere", None) as shown:
        train(shown, 0, 250, calls)
    assert calls == [100, 200, 250]


def test_a_profile_of_no_step_is_refused():
    with pytest.raises(UserError, match="cannot profile the steps"):
        profiler.Profiler("somewhere", (10, 10))


def test_it_leaves_what_tensorboard_reads(tmp_path, capsys):
    work = tf.function(lambda x: tf.linalg.matmul(x, x, name="the_work"))
    with profiler.Profiler(str(tmp_path), (1, 2)) as shown:
        for step in (1, 2):
            shown.update(step)
            work(tf.ones([8, 8]))
    (file,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert b"MatMul" in file.read_bytes()
    said = capsys.readouterr().err
    assert said == f"the profile from step 1 to step 2 is in {tmp_path}\n"


def test_a_profile_that_fails_does_not_stop_the_run(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with profiler.Profiler(str(tmp_path / "file"), (1, 2)) as shown:
        shown.update(1)
        shown.update(2)
        shown.update(1)
    with profiler.Profiler(str(tmp_path), (1, 2)) as shown:  # nothing is left running
        shown.update(1)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("warning: there will be no profile: ")
    assert said[1].startswith("the profile from step 1 to the end of the run is in ")


def test_a_slice_has_none_and_says_how_to_ask_its_workers(calls, capsys):
    workers = ["10.0.0.2:8470", "10.0.0.3:8470"]
    with profiler.Profiler("runs/a", (120, 150), workers=workers) as shown:
        train(shown, 0, 200, calls)
    assert calls == [100, 120, 150, 200]
    said = capsys.readouterr().err
    assert said.startswith("warning: there will be no profile of profile_steps: ")
    assert (
        "tf.profiler.experimental.client.trace('grpc://10.0.0.2:8466,"
        "grpc://10.0.0.3:8466', 'runs/a', 2000)"
    ) in said
