import json

import pytest

from benchmarks.support import results
from common import cli
from common.errors import UserError
from tests.support.commands import status
from tests.support.folders import NOT_OURS

REPORT = {"benchmark": "speed", "ms": [1.0, 0.1], "machine": {"cpu": "ein Prozessor é"}}


def _parser():
    return results.parser("benchmarks.speed", __doc__)


@cli.command(_parser)
def main(arguments):
    results.publish(REPORT, arguments.output)


def test_a_line_and_a_file(tmp_path, capsys):
    path = tmp_path / "speed.json"
    assert main([]) == 0
    line = json.loads(capsys.readouterr().out)
    assert {key: line[key] for key in REPORT} == REPORT
    assert list(line) == [*REPORT, "date"]
    assert main([f"--output={path}"]) == 0
    assert main([f"--output={path}"]) == 0
    assert results.load(path) == line
    assert list(json.loads(path.read_text())) == [*line, "sha256"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        '{"sha256": 1}',
        "a letter",
        json.dumps({**REPORT, "sha256": "0"}),
    ],
)
def test_what_is_not_ours_stays(content, tmp_path, capsys):
    path = tmp_path / "speed.json"
    path.write_text(content)
    assert status(main, f"--output={path}") == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].endswith(f"{path} {NOT_OURS}")
    assert said.out == ""
    assert path.read_text() == content
    with pytest.raises(UserError, match="is not as python -m benchmarks"):
        results.load(path)


def test_figures_that_a_person_has_changed_are_not_ours(tmp_path):
    path = tmp_path / "speed.json"
    results.write(path, REPORT)
    assert results.load(path) == REPORT
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.raises(UserError, match="take back what was changed"):
        results.load(path)


def test_another_benchmark_s_file_is_not_ours(tmp_path, capsys):
    path = tmp_path / "memory.json"
    results.write(path, {**REPORT, "benchmark": "memory"})
    assert status(main, f"--output={path}") == 2


def test_a_folder_that_is_not_there_is_told_before_the_work(tmp_path, capsys):
    assert status(main, f"--output={tmp_path}/none/speed.json") == 2
    assert f"there is no folder {tmp_path}/none" in capsys.readouterr().err
