"""Which host this is, by what engines and machines say."""

import contextlib
import dataclasses
import http.server
import threading

import pytest

from common.errors import Restart, UserError
from launch.host import identity
from tests.support import slices

NUMBER, ENDS = "agent-worker-number", "worker-network-endpoints"
# As a TPU VM of a v4-16 is told, but for the numbers.
TPU_VM = {NUMBER: "1", ENDS: "unknown:unknown:10.164.0.7,unknown:unknown:10.164.0.9"}
# GKE's metadata server has no such attribute, and says so in HTML.
HTML = "<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>"
NOBODY = {"GCE_METADATA_HOST": "127.0.0.1:9"}


@contextlib.contextmanager
def metadata(attributes, status=404, flavor="Google"):
    """Serve them as a machine's metadata server; yield the environment."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.headers["Metadata-Flavor"] == "Google"
            folder, _, name = self.path.rpartition("/")
            assert folder == "/computeMetadata/v1/instance/attributes"
            self.send_response(200 if name in attributes else status)
            self.send_header("Metadata-Flavor", flavor)
            self.end_headers()
            self.wfile.write(attributes.get(name, HTML).encode())

        def log_message(self, format, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield {"GCE_METADATA_HOST": f"127.0.0.1:{server.server_port}"}
    finally:
        server.shutdown()
        server.server_close()


def gpu(**changes):
    return slices.job(machines="gpu", generation="", **changes)


def test_a_tpu_vm_asks_its_metadata_server():
    with metadata(TPU_VM) as environment:
        place = identity.find(slices.job(), environment)
    assert place.number == 1
    assert place.addresses == ("10.164.0.7:8470", "10.164.0.9:8470")
    assert place.source == "agent-worker-number of the metadata server"
    assert str(place) == "host 1 of 2"


def test_gke_says_it_in_the_environment():
    told = {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "job-0-0.job,job-0-1.job"}
    place = identity.find(slices.job(), told | NOBODY)
    assert place.number == 0
    assert place.names == ("job-0-0.job", "job-0-1.job")
    assert place.source == "TPU_WORKER_ID with TPU_WORKER_HOSTNAMES"


def test_skypilot_ranks_the_hosts_of_gpus():
    told = {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.4\n"}
    place = identity.find(gpu(), told)
    assert (place.number, place.addresses) == (1, ("10.0.0.5:2222", "10.0.0.4:2222"))


def test_ranks_are_not_the_order_of_a_slice():
    told = {"SKYPILOT_NODE_RANK": "0", "SKYPILOT_NODE_IPS": "10.164.0.9\n10.164.0.7"}
    with metadata(TPU_VM) as environment:
        assert identity.find(slices.job(), told | environment).number == 1


def test_a_job_set_says_it_for_gpus():
    told = {"LAUNCH_HOSTS": "job-0.job,job-1.job:7000", "JOB_COMPLETION_INDEX": "1"}
    place = identity.find(gpu(), told)
    assert (place.number, place.addresses) == (1, ("job-0.job:2222", "job-1.job:7000"))


def test_one_host_needs_nobody_who_tells():
    assert identity.find(slices.job(hosts=1), NOBODY).addresses == ("127.0.0.1:8470",)
    with metadata({}) as environment:
        assert identity.find(slices.job(hosts=1), environment).number == 0


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, "nobody tells which one this is: neither LAUNCH_HOSTS with"),
        (
            {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "a,b,c,d"},
            r"there are 4 hosts \(a, b, c, d\), and the job job has 2",
        ),
        (
            {"TPU_WORKER_ID": "2", "TPU_WORKER_HOSTNAMES": "a,b"},
            "'2', which is none of",
        ),
        ({"TPU_WORKER_ID": "", "TPU_WORKER_HOSTNAMES": "a,b"}, "'', which is none of"),
        ({"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": ""}, "nobody tells which one"),
        ({"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "a,$(b)"}, "is no name or"),
        ({"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "a,a"}, "a stands there twice"),
        ({"LAUNCH_HOSTS": "a,b"}, "this host is '', which is none of 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(told, why):
    with pytest.raises(UserError, match=why):
        identity.find(slices.job(), told | NOBODY)


@pytest.mark.parametrize(
    "attributes", [{NUMBER: "0"}, TPU_VM | {NUMBER: HTML}, TPU_VM | {ENDS: HTML}]
)
def test_answers_of_another_form_are_refused(attributes):
    with metadata(attributes) as environment, pytest.raises(UserError):
        identity.find(slices.job(), environment)


def test_what_is_no_metadata_server_is_not_believed():
    refused = pytest.raises(UserError, match="nobody tells")
    with metadata(TPU_VM, flavor="proxy") as environment, refused:
        identity.find(slices.job(), environment)


def test_a_metadata_server_that_is_busy_may_answer_later(monkeypatch):
    monkeypatch.setattr(identity.time, "sleep", lambda _: None)
    busy = pytest.raises(Restart, match=r"does not answer: .*503")
    with metadata({}, status=503) as environment, busy:
        identity.find(slices.job(), environment)


def test_proxies_are_not_asked(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with metadata(TPU_VM) as environment:
        assert identity.find(slices.job(), environment).number == 1


def test_gpus_do_not_ask_for_tpus():
    with metadata(TPU_VM) as environment, pytest.raises(UserError, match="nobody"):
        identity.find(gpu(), environment)
    alone = dataclasses.replace(gpu(), hosts=1)
    assert identity.find(alone, {}).addresses == ("127.0.0.1:2222",)
