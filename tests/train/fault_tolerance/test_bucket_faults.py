"""How a run in a bucket ends when that fails for good; `tests/train/bucket` goes on."""

import re
import sys

import pytest

from tests.support.bucket import serving
from tests.support.fake_gcs import load
from tests.support.runs import TINY

READ = {"op": "read", "name": "train-", "after": 12}  # a training has begun by then
UPLOAD = {"op": "start|upload|insert", "name": "ckpt-4"}
ROLE = "this account: give it a role there, as roles/storage.objectUser on gs://"
DATA, RUN = (
    "cannot read gs://data/mnist/train-",
    "cannot write a checkpoint to gs://run/",
)
# Each fault, on_bad_record, the status of the end, and what its line says.
FAULTS = [
    ({**READ, "do": "503"}, "stop", 75, f"{DATA}.* now: HTTP 503: injected"),
    ({**READ, "do": "drop"}, "skip", 75, f"{DATA}.* now: Empty reply from server"),
    ({**READ, "do": "403"}, "stop", 2, f"{DATA}.*: HTTP 403: .* {ROLE}data"),
    ({**READ, "do": "403"}, "skip", 2, f"{DATA}.*: HTTP 403: .* {ROLE}data"),
    ({**READ, "do": "404"}, "skip", 2, f"{DATA}.*; it is not there, or gs://data is"),
    ({**READ, "do": "401"}, "stop", 75, f"{DATA}.* now, the access token was lost: "),
    ({**UPLOAD, "do": "503"}, "stop", 75, f"{RUN}one now: HTTP 503: injected 503"),
    ({**UPLOAD, "do": "403"}, "stop", 2, f"{RUN}one: HTTP 403: .* {ROLE}run"),
    ({"op": "list", "after": 60, "do": "503"}, "stop", 75, "now: HTTP 503: injected"),
    ({"op": "delete", "do": "503"}, "stop", 75, "gs://run/one.* now: HTTP 503"),
    ({"op": "rewrite", "name": "ckpt-4", "do": "503"}, "stop", 75, f"{RUN}one now: H"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "policy", "status", "words"), FAULTS)
def test_a_bucket_that_fails_for_good(rule, policy, status, words, digits, tmp_path):
    settings = (
        "experiment.Experiment.data_dir = 'gs://data/mnist'",
        f"dataset.train_dataset.on_bad_record = '{policy}'",
    )
    command = [sys.executable, "-m", "train.main", f"--gin_file={TINY}"]
    command += [f"--gin_param={setting}" for setting in settings]
    with serving(tmp_path, "data", "run", writes_per_second=0) as bucket:
        load(bucket.store, f"data/mnist={digits}")
        bucket.store.faults = [rule]
        ended, _, said = bucket.run([*command, "--model_dir=gs://run/one"])
    last = said.splitlines()[-1]
    print(rule, policy, ended, last, sep="; ")
    assert (ended, bool(re.search(words, last))) == (status, True), said
    assert "bad record" not in said
    assert "free some space" not in said
