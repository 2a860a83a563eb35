"""The client: what it asks, what is an answer, and what it keeps to itself."""

import re

import pytest
import requests

from launch.doctor.checks import CHECKS, NODE_CHECKS, examine
from launch.doctor.findings import NotAnswered
from launch.doctor.google import SERVICES
from launch.doctor.report import line, to_json
from tests.support.google import TOKEN, case_of, client

BUCKET = "b/my-bucket"
TELLS = re.compile(r".*:(testIamPermissions|getIamPolicy)")


pytestmark = pytest.mark.usefixtures("no_commands")


def all_rows(google, path, **options):
    case = case_of(google, path, compiles=False, **options)
    return [examine(n, one, case) for n, one in enumerate(CHECKS + NODE_CHECKS, 1)]


@pytest.mark.parametrize("name", ["v5e_32", "gpu_2x8"])
@pytest.mark.parametrize("engine", ["gcloud", "jobset", "skypilot"])
def test_nothing_is_changed_anywhere(google, job, name, engine):
    all_rows(google, job(name=name), engine=engine, node="b0-v5e-32")
    assert len(google.asked) > 10
    for asked in google.asked:
        method, url = asked.split(" ")
        assert method == "GET" or (method == "POST" and TELLS.fullmatch(url)), asked


def test_the_token_is_shown_to_google_alone_and_said_to_nobody(
    google, job, caplog, capfd
):
    caplog.set_level(0)
    google.said["bucket"] = 403
    google.said["nodes"] = requests.ConnectionError(f"Authorization: Bearer {TOKEN}")
    google.said["nodes"] = 503
    rows = all_rows(google, job(), engine="gcloud", node="b0-v5e-32")
    said = "".join([*map(line, rows), *(str(to_json(row)) for row in rows)])
    said += caplog.text + "".join(capfd.readouterr())
    assert "503" in said
    for secret in (TOKEN, "Bearer", "uthorization"):
        assert secret not in said
    hosts = {url.split("/")[2] for url in google.asked}
    assert hosts == {
        *(root.split("/")[2] for root in SERVICES.values()),
        "us-docker.pkg.dev",
    }
    assert all(one.headers["authorization"] == f"Bearer {TOKEN}" for one in google.sent)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_service_is_asked_again(google, status):
    about = google.said["bucket"]
    google.said["bucket"] = [status, status, about]
    assert client(google).get("storage", BUCKET) == about
    assert len(google.asked) == 3


def test_a_service_that_is_away_is_asked_no_more(google):
    ours = client(google)
    google.said["bucket"] = 503
    away = "storage.googleapis.com does not answer now: 503: as a test has it"
    for path in (BUCKET, f"{BUCKET}/iam"):
        with pytest.raises(NotAnswered) as caught:
            ours.get("storage", path)
        assert str(caught.value) == away
    assert len(google.asked) == 3
    assert ours.granted("iam", "projects/p/serviceAccounts/a", ["x"]) is None  # 404


def test_no_network(google):
    google.said["bucket"] = requests.ConnectionError("no route to host")
    with pytest.raises(NotAnswered) as caught:
        client(google).get("storage", BUCKET)
    assert str(caught.value) == (
        "storage.googleapis.com does not answer: no route to host"
    )


def test_another_form(google, job):
    google.said["bucket"] = {"name": "my-bucket"}
    rows = all_rows(google, job())
    assert line(rows[17]) == (
        "18  unknown  place of the buckets: an answer of another form: KeyError: "
        "'location'"
    )
    assert rows[18].finding.outcome == "ok"
    google.said["bucket"] = b"<html>"
    with pytest.raises(NotAnswered, match=r"googleapis.com does not answer as Google"):
        client(google).get("storage", BUCKET)


def test_refused(google):
    google.said["bucket"] = 403
    with pytest.raises(NotAnswered, match=r"refuses: 403: as a test has it"):
        client(google).get("storage", BUCKET)
    assert len(google.asked) == 1


def test_an_object_and_its_age(google):
    ours = client(google)
    assert ours.read("gs://my-bucket/a b/c") is None
    google.objects["a b/c"] = b"text", 100
    found = ours.read("gs://my-bucket/a b/c")
    assert found
    assert found.content == b"text"
    assert 99 <= found.age <= 102
    assert google.asked[-1].endswith("/b/my-bucket/o/a%20b%2Fc")
    google.objects["a b/d"] = b"", 1
    assert ours.list("gs://my-bucket/a b") == {"c": 4, "d": 0}
