"""The fake bucket behaves as Google documents it, asked as TensorFlow's client asks."""

import email.utils
import http.client
import itertools
import json
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest

from tests.support.fake_gcs import Blob, load, serve

API = "https://www.googleapis.com/storage/v1/b"
UPLOAD = "https://www.googleapis.com/upload/storage/v1/b"
READ = "https://storage.googleapis.com"
ODD = "a dir/100 %+ü&?#'.txt"


class Client:
    """Goes through the proxy and TLS, with a token."""

    def __init__(self, environment):
        context = ssl.create_default_context(cafile=environment["CURL_CA_BUNDLE"])
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({"https": environment["https_proxy"]}),
            urllib.request.HTTPSHandler(context=context),
            KeepTheStatus(),
        )
        self.metadata_host = environment["GCE_METADATA_HOST"]
        self.token = environment["GOOGLE_AUTH_TOKEN_FOR_TESTING"]

    def __call__(self, method, url, data=None, **headers):
        """Return status, headers and content."""
        if self.token and "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.token}"
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:  # urllib else sends a form
            headers |= {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(url, data, headers, method=method)
        with self._opener.open(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()

    def status(self, *args, **headers):
        return self(*args, **headers)[0]

    def json(self, *args, **headers):
        return json.loads(self(*args, **headers)[2])

    def insert(self, name, data, **query):
        """Write in one request; return the status, and the generation if it was."""
        query = {"uploadType": "media", "name": name} | query
        url = f"{UPLOAD}/b/o?{urllib.parse.urlencode(query)}"
        status, _, content = self("POST", url, data)
        return status, json.loads(content).get("generation")

    def names(self, **query):
        """Return items and folders of a listing, and the token of its next page."""
        found = self.json("GET", f"{API}/b/o?{urllib.parse.urlencode(query)}")
        items = [item["name"] for item in found.get("items", [])]
        return items, found.get("prefixes", []), found.get("nextPageToken")


class KeepTheStatus(urllib.request.HTTPErrorProcessor):
    def http_response(self, request, response):
        return response

    https_response = http_response


@pytest.fixture
def served(tmp_path):
    server, store, environment = serve(tmp_path, writes_per_second=0)
    store.buckets["b"] = {}
    yield store, environment
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(served):
    return served[0]


@pytest.fixture
def client(served):
    return Client(served[1])


def quoted(name):
    return urllib.parse.quote(name, safe="")


@pytest.mark.parametrize("name", ["x", ODD, "a//b", "dir/"])
def test_what_is_written_is_read(client, name):
    status, generation = client.insert(name, b"0123456789")
    assert status == 200
    described = client.json("GET", f"{API}/b/o/{quoted(name)}")
    assert described["name"] == name
    assert described["size"] == "10"
    assert described["generation"] == generation
    assert described["md5Hash"] == "eB5eJF1ptWaXm4bijSPyxw=="
    for url in (f"{READ}/b/{quoted(name)}", f"{API}/b/o/{quoted(name)}?alt=media"):
        assert client("GET", url)[::2] == (200, b"0123456789")
    assert client.names()[0] == [name]


@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        ("2-4", 206, b"234", "bytes 2-4/10"),
        ("8-99", 206, b"89", "bytes 8-9/10"),
        ("7-", 206, b"789", "bytes 7-9/10"),
        ("-3", 206, b"789", "bytes 7-9/10"),
        ("10-12", 416, None, "bytes */10"),
    ],
)
def test_ranges(client, asked, status, content, told):
    client.insert("x", b"0123456789")
    found, headers, data = client("GET", f"{READ}/b/x", Range=f"bytes={asked}")
    assert (found, headers["Content-Range"]) == (status, told)
    assert content is None or data == content


def test_an_empty_object(client):
    assert client.insert("dir/", b"")[0] == 200
    assert client("GET", f"{READ}/b/dir%2F")[::2] == (200, b"")
    assert client.status("GET", f"{READ}/b/dir%2F", Range="bytes=0-9") == 416


def test_generations_and_preconditions(client):
    assert client.insert("x", b"1", ifGenerationMatch=1)[0] == 412
    _, first = client.insert("x", b"1", ifGenerationMatch=0)
    assert client.insert("x", b"2", ifGenerationMatch=0) == (412, None)
    status, second = client.insert("x", b"2", ifGenerationMatch=first)
    assert (status, int(second) > int(first)) == (200, True)
    assert client.insert("x", b"3", ifGenerationMatch=first)[0] == 412
    url = f"{API}/b/o/x"
    assert client.status("GET", f"{url}?ifGenerationNotMatch={second}") == 412
    assert client.status("DELETE", f"{url}?ifGenerationMatch={first}") == 412
    assert client("GET", f"{READ}/b/x")[2] == b"2"
    assert client.status("DELETE", f"{url}?ifGenerationMatch={second}") == 204
    assert client.status("GET", url) == 404
    _, third = client.insert("x", b"4", ifGenerationMatch=0)
    assert int(third) > int(second)


def test_copies_on_the_server(client):
    _, one = client.insert("a/x", b"one")
    _, two = client.insert("y", b"two")
    copy = f"{API}/b/o/a%2Fx/rewriteTo/b/b/o/y"
    assert client.status("POST", f"{copy}?ifGenerationMatch=0", b"") == 412
    assert client.status("POST", f"{copy}?ifSourceGenerationMatch={two}", b"") == 412
    done = client.json("POST", f"{copy}?ifGenerationMatch={two}", b"")
    assert (done["done"], done["resource"]["name"]) == (True, "y")
    assert int(done["resource"]["generation"]) > int(two)
    assert client("GET", f"{READ}/b/y")[2] == b"one"
    assert client.json("GET", f"{API}/b/o/a%2Fx")["generation"] == one
    asked = b"{'sourceObjects': [{'name': 'a/x'}, {'name': 'y'}]}"
    assert client.status("POST", f"{API}/b/o/z/compose", asked) == 200
    assert client("GET", f"{READ}/b/z")[2] == b"oneone"


def test_what_is_said_of_an_object_has_a_generation_of_its_own(client):
    _, generation = client.insert("x", b"1")
    said = client.json("PATCH", f"{API}/b/o/x", b'{"metadata": {"who": "me"}}')
    assert (said["generation"], said["metageneration"]) == (generation, "2")
    assert said["metadata"] == {"who": "me"}


def test_listings(client, store):
    names = ["dir/", "dir/a", "dir/sub/b", "dir/sub/c", "dir2/d", "e"]
    for name in names:
        store.put("b", name, Blob())
    assert client.names() == (names, [], None)
    assert client.names(prefix="dir") == (names[:5], [], None)
    assert client.names(delimiter="/") == (["e"], ["dir/", "dir2/"], None)
    folder = {"prefix": "dir/", "delimiter": "/"}
    assert client.names(**folder) == (["dir/", "dir/a"], ["dir/sub/"], None)
    for of in ({}, {"delimiter": "/"}, folder):
        whole, token, pages = client.names(**of), "", []
        while token is not None:
            *page, token = client.names(maxResults=1, pageToken=token, **of)
            pages.append(page)
        assert len(pages) == len(whole[0]) + len(whole[1])
        for found, at_once in zip(zip(*pages, strict=True), whole[:2], strict=True):
            assert list(itertools.chain(*found)) == at_once
    for number in range(1000):
        store.put("b", f"many/{number:04}", Blob())
    items, _, token = client.names(prefix="many/")
    assert (len(items), token) == (1000, None)
    assert client.names(prefix="many")[2] is None
    assert client.names()[2] is not None  # a thousand a page


def start(client, name="x", **query):
    """Start a resumable upload; return where it goes."""
    query = {"uploadType": "resumable", "name": name} | query
    status, headers, _ = client("POST", f"{UPLOAD}/b/o?{urllib.parse.urlencode(query)}")
    return headers["Location"] if status == 200 else status


def test_resumable_upload(client):
    data = bytes(range(256)) * 2344  # 600,064 bytes
    where, size, half = start(client, ODD), len(data), 262144
    status, headers, _ = client("PUT", where, b"", Content_Range=f"bytes */{size}")
    assert (status, headers["Range"]) == (308, None)
    part = f"bytes 0-{half - 1}/{size}"
    status, headers, _ = client("PUT", where, data[:half], Content_Range=part)
    assert (status, headers["Range"]) == (308, f"bytes=0-{half - 1}")
    status, headers, _ = client("PUT", where, b"", Content_Range=f"bytes */{size}")
    assert (status, headers["Range"]) == (308, f"bytes=0-{half - 1}")
    assert client.names()[0] == []  # until it is whole
    gap = f"bytes {half + 1}-{size - 1}/{size}"
    assert client.status("PUT", where, data[half + 1 :], Content_Range=gap) == 400
    rest = f"bytes {half}-{size - 1}/{size}"
    assert client.status("PUT", where, data[half:], Content_Range=rest) == 200
    assert client("GET", f"{READ}/b/{quoted(ODD)}")[2] == data
    # Once it is done the question is answered with the object, and nothing changes.
    again = client.json("PUT", where, b"", Content_Range=f"bytes */{size}")
    assert again["size"] == str(size)
    assert client.status("PUT", where.replace("upload_id=", "upload_id=no")) == 404


def test_an_upload_s_precondition_holds_until_its_end(client):
    where = start(client, ifGenerationMatch=0)
    client.insert("x", b"other")
    whole = {"Content_Range": "bytes 0-3/4"}
    assert client.status("PUT", where, b"mine", **whole) == 412
    assert start(client, ifGenerationMatch=0) == 412
    assert client("GET", f"{READ}/b/x")[2] == b"other"


def test_what_came_before_a_break_is_kept_in_quanta(client, store):
    data = bytes(1 << 20)
    where, size = start(client), len(data)
    store.faults = [{"op": "upload", "do": "drop_upload", "times": 1}]
    with pytest.raises(OSError, match=r"."):
        client("PUT", where, data, Content_Range=f"bytes 0-{size - 1}/{size}")
    status, headers, _ = client("PUT", where, b"", Content_Range=f"bytes */{size}")
    assert (status, headers["Range"]) == (308, f"bytes=0-{(1 << 19) - 1}")


def test_rights(client, store):
    client.insert("x", b"1")
    url, missing = f"{API}/b/o/x", f"{API}/b/o/no"
    assert client.status("GET", missing) == 404
    store.set_roles("b", ["objectViewer"])
    assert client.status("GET", url) == 200
    assert client.status("GET", missing) == 404
    assert client.insert("y", b"")[0] == 403
    assert client.status("DELETE", url) == 403
    assert client.status("GET", f"{API}/b") == 403  # buckets.get is apart
    store.set_roles("b", ["objects.get"])
    assert client.status("GET", missing) == 403  # it may not know that there is none
    assert client.status("GET", f"{API}/b/o") == 403
    store.set_roles("b", ["objectCreator"])
    assert client.insert("y", b"")[0] == 200
    assert client.insert("x", b"")[0] == 403  # to overwrite is to delete
    assert start(client, "z").startswith("https://")
    assert client.status("GET", url) == 403
    assert client.status("GET", f"{API}/nowhere/o") == 404
    assert client.status("GET", f"{READ}/nowhere/x") == 404


def test_tokens(client, store):
    client.insert("x", b"1")
    asked = f"http://{client.metadata_host}/computeMetadata/v1/instance"
    url = f"{asked}/service-accounts/default/token"
    good, client.token = client.token, ""
    assert client.status("GET", f"{API}/b/o/x") == 401
    assert client.status("GET", f"{READ}/b/x") == 403  # the XML API says it this way
    assert client.status("GET", url) == 403  # without its own header
    given = client.json("GET", url, Metadata_Flavor="Google")
    assert given["expires_in"] == 3599
    client.token = given["access_token"]
    assert client("GET", f"{READ}/b/x")[::2] == (200, b"1")
    store.tokens.revoke()
    for client.token in (given["access_token"], good, "made up"):
        assert client.status("GET", f"{READ}/b/x") == 401
    store.tokens.seconds = 0.0
    client.token = client.json("GET", url, Metadata_Flavor="Google")["access_token"]
    assert client.status("GET", f"{READ}/b/x") == 401
    store.faults = [{"op": "token", "do": "503"}]
    assert client.status("GET", url, Metadata_Flavor="Google") == 503
    assert client("GET", f"http://{client.metadata_host}")[0] == 200
    zone = client("GET", f"{asked}/zone", Metadata_Flavor="Google")[2]
    assert zone == b"projects/1/zones/us-central1-a"


def test_one_write_a_second_of_an_object(client, store):
    store.writes_per_second = 1.0
    assert client.insert("x", b"")[0] == 200
    assert client.insert("x", b"")[0] == 429
    assert client.insert("y", b"")[0] == 200
    store.writes_per_second = 0
    assert client.insert("x", b"")[0] == 200


def test_the_storage_has_a_clock_of_its_own(client, store):
    store.clock_skew = 3600.0
    client.insert("x", b"")
    _, headers, content = client("GET", f"{API}/b/o/x")
    date = email.utils.parsedate_to_datetime(headers["Date"]).timestamp()
    assert date == pytest.approx(store.now(), abs=5)
    hour = email.utils.formatdate(date).split(":")[0][-2:]
    assert json.loads(content)["updated"].partition("T")[2][:2] == hour


@pytest.mark.parametrize(
    ("do", "done"), [("503", False), ("429", False), ("done_503", True)]
)
def test_faults_with_a_status(client, store, do, done):
    store.faults = [{"op": "insert", "name": "^x$", "after": 1, "times": 1, "do": do}]
    assert client.insert("x", b"1")[0] == 200
    assert client.insert("y", b"1")[0] == 200
    assert client.insert("x", b"2")[0] == int(do[-3:])
    assert client("GET", f"{READ}/b/x")[2] == (b"2" if done else b"1")
    assert client.insert("x", b"3")[0] == 200
    assert (store.faults[0]["seen"], store.faults[0]["done"]) == (3, 1)


@pytest.mark.parametrize("do", ["drop", "truncate", "hang"])
def test_faults_that_break_the_connection(client, store, do):
    client.insert("x", b"0123456789")
    store.faults = [{"op": "read", "do": do, "times": 1, "seconds": 0.05}]
    with pytest.raises(Exception, match=r".") as broken:
        client("GET", f"{READ}/b/x")
    assert getattr(broken.value, "partial", b"01234") == b"01234"
    assert client("GET", f"{READ}/b/x")[2] == b"0123456789"
    row = store.stats["read"]
    sent, status = (10, {"-1": 1, "200": 1}) if do != "truncate" else (15, {"200": 2})
    assert row == {"requests": 2, "sent": sent, "received": 0, "status": status}


def test_dice_fall_alike_in_every_order(tmp_path):
    """Threads take turns as they like; what each object meets stays."""

    def luck(order):
        server, store, _ = serve(tmp_path, seed=3)
        server.shutdown()
        server.server_close()
        store.faults = [{"chance": 0.5, "do": ["503", "drop", "truncate"]}]
        met = {}
        for name in order:
            met.setdefault(name, []).append(store.fault("read", name).do)
        return met

    names = [f"o{number}" for number in range(20)] * 3
    met = luck(names)
    assert luck(sorted(names)) == met
    found = [do for of_one in met.values() for do in of_one]
    assert set(found) == {"", "503", "drop", "truncate"}
    assert 20 <= found.count("") <= 40


def test_counters_and_latency(client, store):
    store.latency = 0.2
    store.put("b", "x", Blob(bytes(1000)))
    threads = [
        threading.Thread(target=client, args=("GET", f"{READ}/b/x")) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.most_in_flight == 4
    assert store.stats == {
        "read": {"requests": 4, "sent": 4000, "received": 0, "status": {"200": 4}}
    }
    store.reset()
    assert store.stats == {}


def test_a_folder_is_loaded_and_looked_at(client, store, tmp_path):
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/sub/x").write_bytes(b"one")
    load(store, f"other/deep/er={tmp_path / 'data'}")
    load(store, f"top={tmp_path / 'data'}")
    assert store.content("other", "deep/") == {"er/sub/x": b"one"}
    assert store.content("top") == {"sub/x": b"one"}
    assert client("GET", f"{READ}/other/deep%2Fer%2Fsub%2Fx")[2] == b"one"
    here = f"http://{client.metadata_host}/_fake"
    assert client.json("POST", f"{here}/faults", b'[{"op": "read", "do": "503"}]')
    assert client.status("GET", f"{READ}/top/sub%2Fx") == 503
    assert client.json("POST", f"{here}/faults", b"[]") == []
    assert client.json("GET", f"{here}/stats")["ops"]["read"]["status"]["503"] == 1


def test_a_client_that_asks_whether_to_go_on_is_told_at_once(served):
    """TensorFlow's uploads do, and would wait for a second."""
    store, environment = served
    context = ssl.create_default_context(cafile=environment["CURL_CA_BUNDLE"])
    port = int(environment["https_proxy"].rpartition(":")[2])
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
    connection.set_tunnel("www.googleapis.com")
    connection.putrequest("POST", "/upload/storage/v1/b/b/o?uploadType=media&name=x")
    connection.putheader("Authorization", "Bearer fake")
    connection.putheader("Expect", "100-continue")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    connection.sock.settimeout(5)
    assert connection.sock.recv(99).startswith(b"HTTP/1.1 100 Continue\r\n")
    connection.send(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    assert connection.getresponse().status == 200
    connection.close()
    assert store.content("b") == {"x": b"onetwo"}


def test_nothing_leads_outside(client):
    with pytest.raises(urllib.error.URLError, match="403"):
        client("GET", "https://example.com/")
