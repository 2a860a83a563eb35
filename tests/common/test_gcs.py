"""The requests by generation, as somebody's own client has to see them."""

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import types

import pytest

from common import gcs
from common.errors import Restart
from tests.support.fake_gcs.answers import Answer
from tests.support.own_bucket import own_bucket

PATH = "gs://bucket/a folder/ü+%?#.json"
WRITE = "from common import gcs; print(gcs.write('gs://bucket/x', b'1', 0))"


@pytest.fixture
def store(tmp_path):
    with own_bucket(tmp_path) as store:
        yield store


def generation(path=PATH):
    found = gcs.look(path)
    assert found
    return found.generation


def test_nothing_is_there(store):
    assert gcs.look(PATH) is None
    assert gcs.read(PATH) is None
    assert not gcs.copy(PATH, "gs://bucket/copy", 0)
    assert gcs.remove(PATH, 7)
    assert store.buckets["bucket"] == {}


def wrote(data, seen, path=PATH):
    written = gcs.write(path, data, seen)
    assert written
    return written


def test_of_two_writers_one_is_first(store):
    first = gcs.write(PATH, b'"one"', 0)
    assert first == generation()
    assert gcs.write(PATH, b'"two"', 0) is None
    assert gcs.read(PATH) == gcs.read(PATH, first) == b'"one"'
    assert list(store.buckets["bucket"]) == ["a folder/ü+%?#.json"]


def test_what_was_replaced_is_seen_no_more(store):
    store.writes_per_second = 0
    first = wrote(b"1", 0)
    second = wrote(b"2", first)
    assert second == generation() > first
    assert gcs.write(PATH, b"3", first) is None
    assert gcs.read(PATH, first) is None
    assert not gcs.remove(PATH, first)
    assert not gcs.copy(PATH, PATH, first)
    assert gcs.read(PATH) == b"2"
    assert gcs.remove(PATH, second)
    assert gcs.look(PATH) is None


def test_a_copy_replaces_what_was_seen_alone(store):
    store.writes_per_second = 0
    gcs.write(PATH, b"1", 0)
    assert gcs.copy(PATH, "gs://bucket/copy", 0)
    assert not gcs.copy(PATH, "gs://bucket/copy", 0)
    assert gcs.read("gs://bucket/copy") == b"1"
    seen = generation()
    assert gcs.copy(PATH, PATH, seen)  # onto itself: another generation
    assert generation() > seen
    assert gcs.read(PATH) == b"1"


@pytest.mark.parametrize("skew", [-86400.0, 0.0, 86400.0])
def test_the_age_is_the_storages(store, skew):
    store.clock_skew = skew
    gcs.write(PATH, b"1", 0)
    store.clock_skew += 100
    found = gcs.look(PATH)
    assert found
    # Of the storage's clock an answer tells whole seconds.
    assert 99 <= found.age <= 110


def test_one_write_a_second_is_waited_for(store):
    began = time.monotonic()
    wrote(b"2", wrote(b"1", 0))
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("what", ["503", "429", "drop", "408", "500"])
@pytest.mark.long
def test_a_passing_fault_is_met_again(store, what):
    store.faults = [{"do": what, "times": 2}]
    assert gcs.write(PATH, b"1", 0) == generation()


def test_done_and_answered_503(store):
    """Whoever asks has to look whether it was itself."""
    store.faults = [{"op": "insert", "do": "done_503", "times": 1}]
    assert gcs.write(PATH, b"1", 0) is None
    assert gcs.read(PATH) == b"1"
    store.faults = [{"op": "delete", "do": "done_503", "times": 1}]
    assert gcs.remove(PATH, generation())


@pytest.mark.parametrize("what", ["503", "drop", "truncate"])
def test_a_storage_that_stays_busy_is_a_restart(store, what):
    gcs.write(PATH, b"1", 0)
    store.faults = [{"op": "read", "do": what}]
    with pytest.raises(Restart, match=r"^gs://bucket/a folder/ü\+%\?#\.json cannot be"):
        gcs.read(PATH)


def test_patience_ends(store, monkeypatch):
    monkeypatch.delenv("GCS_RETRY_CONFIG_INIT_DELAY_TIME_US")
    store.faults = [{"do": "503"}]
    began = time.monotonic()
    with pytest.raises(Restart, match="503: injected"):
        gcs.look(PATH, patience=0.5)
    assert time.monotonic() - began < 5


def test_the_last_try_is_at_the_end_of_the_patience(store, monkeypatch):
    monkeypatch.delenv("GCS_RETRY_CONFIG_INIT_DELAY_TIME_US")
    slept = []
    clock = types.SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr(gcs, "time", clock)
    store.faults = [{"do": "503"}]
    with pytest.raises(Restart, match="503: injected"):
        gcs.look(PATH)
    assert slept == [1, 2, 4, 8, 16, 32, 27]  # 90 s


def test_what_hangs_is_given_up(store, monkeypatch):
    monkeypatch.setenv("GCS_REQUEST_IDLE_TIMEOUT_SECS", "0.3")
    store.faults = [{"op": "stat", "do": "hang", "seconds": 20, "times": 1}]
    assert gcs.look(PATH) is None


@pytest.mark.parametrize(
    ("roles", "ask"),
    [
        ({"objects.get", "objects.list"}, lambda: gcs.write(PATH, b"1", 0)),
        ({"objects.create", "objects.list"}, lambda: gcs.look(PATH)),
        ({"objects.get", "objects.create"}, lambda: gcs.look(PATH)),
        ({"objects.get", "objects.create"}, lambda: gcs.remove(PATH, 1)),
    ],
)
def test_what_is_not_allowed_is_told(store, roles, ask):
    store.roles["bucket"] = roles
    began = time.monotonic()
    with pytest.raises(gcs.Refused) as told:
        ask()
    assert re.search(r"403: .*Permission 'storage\.objects\.", str(told.value))
    assert "mend the name or the permissions" in str(told.value)
    assert time.monotonic() - began < 5  # it is not tried again


def test_a_bucket_that_is_not_there(store):
    with pytest.raises(gcs.Refused, match="404: The specified bucket does not exist"):
        gcs.write("gs://none/x", b"1", 0)


def test_a_large_copy_goes_on_where_it_stopped(store, monkeypatch):
    """Between classes of storage Google copies in parts; the fake does not."""

    class Answer:
        ok = True

        def __init__(self, **said):
            self.json = lambda: said

    tokens = []
    answers = iter([Answer(done=False, rewriteToken="x"), Answer(done=True)])

    def ask(method, path, url, query):
        tokens.append(query.get("rewriteToken"))
        return next(answers)

    monkeypatch.setattr(gcs, "_ask", ask)
    assert gcs.copy(PATH, "gs://bucket/copy", 0)
    assert tokens == [None, "x"]


def write_as_machine() -> subprocess.CompletedProcess[str]:
    """By the metadata server, as on a TPU VM, where a process begins with it."""
    environment = os.environ | {"CLOUDSDK_CONFIG": "/none"}
    for name in ("GOOGLE_AUTH_TOKEN_FOR_TESTING", "GOOGLE_APPLICATION_CREDENTIALS"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-c", WRITE], env=environment, capture_output=True, text=True
    )


def test_the_machines_own_credentials(store):
    done = write_as_machine()
    assert done.stdout == f"{generation('gs://bucket/x')}\n", done.stderr


def test_no_credentials_are_a_mistake(store, monkeypatch, tmp_path):
    monkeypatch.delenv("GOOGLE_AUTH_TOKEN_FOR_TESTING")
    (tmp_path / "key.json").write_text(json.dumps({"type": "none"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    gcs.forget_connections()
    with pytest.raises(gcs.Refused, match=r"^cannot reach gs://bucket/\S+ .*key\.json"):
        gcs.look(PATH)


REVOKED = {"error": "invalid_grant", "error_description": "Expired or revoked."}


def log_in(monkeypatch, folder, store, status, said):
    """Let a person's login be all that there is, and Google's answer to it another."""
    person = {"type": "authorized_user", "client_id": "i", "client_secret": "s"}
    (folder / "login.json").write_text(json.dumps(person | {"refresh_token": "r"}))
    monkeypatch.delenv("GOOGLE_AUTH_TOKEN_FOR_TESTING")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(folder / "login.json"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.environ["CURL_CA_BUNDLE"])
    asked = []

    def issue():
        asked.append(said)
        return Answer(status, content=json.dumps(said).encode())

    monkeypatch.setattr(store.tokens, "issue", issue)
    gcs.forget_connections()
    return asked


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_client"])
def test_a_login_that_was_revoked_is_a_mistake(store, monkeypatch, tmp_path, error):
    asked = log_in(monkeypatch, tmp_path, store, 400, REVOKED | {"error": error})
    with pytest.raises(gcs.NoToken) as told:
        gcs.look(PATH)
    assert str(told.value) == (
        f"cannot reach {PATH}: {error}: Expired or revoked.; log in again (gcloud auth "
        "application-default login), or name another key"
    )
    assert len(asked) == 1


@pytest.mark.parametrize(
    "said", [{"error": "temporarily_unavailable"}, {"error": {"code": 503}}, {}]
)
def test_who_gives_tokens_may_be_busy(store, monkeypatch, tmp_path, said):
    asked = log_in(monkeypatch, tmp_path, store, 503, said)
    with pytest.raises(Restart, match="cannot be reached now: "):
        gcs.look(PATH)
    assert len(asked) >= 11


@pytest.mark.parametrize(
    ("do", "told"),
    [
        ("404", "NoToken: cannot reach gs://bucket/x: this machine has no service acc"),
        ("503", "Restart: gs://bucket/x cannot be reached now: "),
    ],
)
def test_a_machine_without_a_service_account(store, do, told):
    store.faults = [{"op": "metadata", "do": do}]
    assert told in write_as_machine().stderr


def test_threads_have_connections_of_their_own(store):
    found = []
    gcs.look(PATH)
    thread = threading.Thread(target=lambda: found.append(gcs.look(PATH)))
    thread.start()
    thread.join()
    assert found == [None]


@pytest.mark.usefixtures("store")
def test_a_library_says_nothing_of_each_try():
    logging.getLogger("google.auth").setLevel(logging.NOTSET)
    gcs.forget_connections()
    gcs.look(PATH)
    assert not logging.getLogger("google.auth.any").isEnabledFor(logging.WARNING)
