import json

import pytest

from benchmarks import digest
from input_pipeline import records
from tests.support.commands import status


def test_all_is_read_once_with_a_digest_or_without(capsys):
    """As small as it can be: what else the process reads is next to nothing."""
    assert digest.main(["--records=80", "--record_bytes=50000", "--repeats=1"]) == 0
    report = json.loads(capsys.readouterr().out)
    # make_example's fields and TFRecord's framing, besides.
    assert 80 * 50_000 < report["file_bytes"] < 80 * 50_400
    for name, passes in [
        ("write_shard", 0),
        ("index_shard", 1),
        ("prepare_tfrecords", 1),  # and the first 16 of the 80 records, for the fields
    ]:
        task = report["tasks"][name]
        for key in ("read_bytes_over_file_bytes", "read_bytes_over_file_bytes_without"):
            most = passes + (0.3 if name == "prepare_tfrecords" else 0.02)
            assert passes <= task[key] < most
        assert task["cpu_seconds"] >= 0


def test_without_digests_there_are_none(tmp_path):
    path = str(tmp_path / "train-0")
    with digest._without_digests():
        assert records.write_shard(path, [b"x"]).digest == ""
    assert records.index_shard(path).digest != ""


@pytest.mark.parametrize("flag", ["--records=0", "--record_bytes=0", "--repeats=0"])
def test_nothing_to_measure(flag, capsys):
    assert status(digest.main, flag) == 2
    assert flag.partition("=")[0] in capsys.readouterr().err
