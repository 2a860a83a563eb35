"""What a run costs around its step, and the waits of a run that only says its steps."""

import pytest

from benchmarks import trainer
from benchmarks.support import run_waits
from common.errors import UserError
from common.project import ROOT

# It takes 0.3 s to its first step, 0.1 s in its second life, and 0.1 s to end; and it
# refuses a setting as the real one does.
FAKE = """
import pathlib, sys, time
arguments = sys.argv[1:]
if any("epoch = 1" in one for one in arguments):
    sys.exit(2)
folder = pathlib.Path(arguments[-1].removeprefix("--model_dir="))
begun = folder.exists()
folder.mkdir(exist_ok=True)
time.sleep(0.1 if begun else 0.3)
for step in range(6 if begun else 1, 21):
    if step == 9 and not begun:
        time.sleep(600)  # until it is killed
    print(f"step {step:,}/20 (5%)  loss 2", file=sys.stderr, flush=True)
time.sleep(0.1)
"""


@pytest.fixture
def project(tmp_path):
    """A checkout whose run is FAKE, and whose TensorFlow is nothing."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train/__init__.py").touch()
    (tmp_path / "train/main.py").write_text(FAKE)
    (tmp_path / "tensorflow.py").touch()
    return tmp_path


def test_waits_by_turns(project):
    found = run_waits.measure([project, project], "digits", 2)
    assert found.keys() == run_waits.WAITS.keys()
    for wait in found.values():
        assert wait.keys() == {
            *("seconds", "cpu_seconds", "before_seconds", "before_cpu_seconds"),
            *("ratio", "cpu_ratio"),
        }
        assert len(wait["seconds"]) == len(wait["before_cpu_seconds"]) == 2
    assert min(found["first_step"]["seconds"]) >= 0.3
    assert min(found["restart"]["seconds"]) >= 0.1
    assert min(found["end"]["seconds"]) >= 0.1


def test_a_wait_alone_has_no_ratio(project):
    found = run_waits.measure([project], "digits", 1)
    assert found["refusal"].keys() == {"seconds", "cpu_seconds"}


def test_a_run_that_ends_early_is_no_figure(project):
    (project / "train/main.py").write_text("import sys; sys.exit('no data')")
    with pytest.raises(RuntimeError, match="no data"):
        run_waits.once(project, "digits")


def test_a_ratio_is_the_median_of_turns():
    moments = [
        [run_waits.Moment(seconds, 1.0) for seconds in column]
        for column in ((1.0, 4.0, 3.0), (2.0, 4.0, 4.0))
    ]
    assert run_waits._report(moments) == {
        "seconds": [1.0, 4.0, 3.0],
        "before_seconds": [2.0, 4.0, 4.0],
        "ratio": 0.75,
        "cpu_seconds": [1.0] * 3,
        "before_cpu_seconds": [1.0] * 3,
        "cpu_ratio": 1.0,
    }


def test_checkouts(tmp_path):
    with run_waits.checkout(str(tmp_path), ROOT) as path:
        assert path == tmp_path
    with (
        pytest.raises(UserError, match="no-such-revision is no folder"),
        run_waits.checkout("no-such-revision", tmp_path),
    ):
        pass


def test_the_ceiling_of_shared_cores():
    """10 ms of CPU an image at 150 images/s leave half a core of two."""
    assert trainer.ceiling(150.0, 2, 10.0, 2.0) == 1.0
    assert trainer.ceiling(200.0, 2, 10.0, 2.5) == pytest.approx(0.8)
    assert trainer.ceiling(100.0, 1, 10.0, 10.0) == pytest.approx(0.5)


def test_the_pace_of_calls():
    calls = []
    pace = trainer._pace(lambda: calls.append(1), 10, 5)
    assert len(calls) == 10 + trainer._WARM_UP
    assert pace.images_per_second > 0
    assert pace.cpu_ms >= 0
