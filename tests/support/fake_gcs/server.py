"""Proxy, TLS and HTTP of the fake; where faults strike, and where it counts.

One port of loopback is all: a CONNECT proxy that ends TLS itself for Google's names,
and plain HTTP for the metadata server and for `hands`. A CONNECT to any other host is
refused: nothing leads outside.
"""

import contextlib
import email.utils
import functools
import http.server
import re
import shlex
import socketserver
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.fake_gcs import hands, routes
from tests.support.fake_gcs.answers import Answer, Refused, Request
from tests.support.fake_gcs.faults import NONE, Fault
from tests.support.fake_gcs.routes import Route
from tests.support.fake_gcs.store import Store
from tests.support.fake_gcs.tokens import FOR_TESTING

HOSTS = ("www.googleapis.com", "storage.googleapis.com", "oauth2.googleapis.com")
CERTIFICATES = Path(__file__).parent / "certificates"
# What a client that has gone leaves.
_GONE = (ConnectionError, TimeoutError, ssl.SSLError)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection: the proxy's words first, then those of the API within TLS."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    store: Store
    context: ssl.SSLContext
    tunnel = ""  # the host that the client thinks it speaks to

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """Serve until the client goes, or is sent away."""
        self.store.counters.connected()
        with contextlib.suppress(*_GONE):  # it has gone
            super().handle()

    def finish(self) -> None:
        """Close the TLS, too, which socketserver does not know of."""
        with contextlib.suppress(*_GONE):
            super().finish()
        self.connection.close()

    def do_CONNECT(self) -> None:
        """Go over to TLS, as the host that the client asks for."""
        host = self.path.rpartition(":")[0]
        if host not in HOSTS:
            self.send_error(403, "the fake proxy leads to Google's storage alone")
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.connection = self.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        # Without a buffer, or a client would wait for its "100 Continue".
        self.wfile = self.connection.makefile("wb", 0)
        self.tunnel, self.close_connection = host, False

    def serve(self) -> None:
        """Answer one request, or let it meet its fault."""
        request = self._request()
        if request.parts[0] == "_fake":
            data, _ = self._body(NONE)
            answer = hands.act(self.store, request, data)
            self._send(answer, answer.read(), NONE)
            return
        route = routes.find(self.store, request)
        began, status = time.monotonic(), -1
        self.store.counters.begin()
        try:
            status = self._exchange(request, route)
        except _GONE:  # a fault, or the client itself
            self.close_connection = True
        finally:
            headers = request.headers
            self.store.counters.end(
                op=route.op,
                name=f"{route.bucket}/{route.name}",
                status=status,
                range=headers.get("Range") or headers.get("Content-Range"),
                seconds=round(time.monotonic() - began, 4),
            )

    def _request(self) -> Request:
        url = urllib.parse.urlsplit(self.path)
        return Request(
            method=self.command,
            host=self.tunnel or self.headers.get("Host", "").partition(":")[0],
            path=self.path,
            parts=[urllib.parse.unquote(p) for p in url.path.lstrip("/").split("/")],
            query=dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True)),
            headers={name.title(): value for name, value in self.headers.items()},
        )

    def _exchange(self, request: Request, route: Route) -> int:
        """Send an answer; return its status, ConnectionError where none goes out."""
        count = functools.partial(self.store.counters.count, route.op)
        fault = self.store.fault(route.op, route.name)
        slow = fault.latency
        time.sleep(self.store.latency if slow is None else slow)
        if fault.do == "hang":
            count(-1, 0, 0)
            self.store.stopped.wait(fault.seconds)
            raise ConnectionError(fault.do)
        data, whole = self._body(fault)
        if fault.do == "drop":
            count(-1, 0, len(data))
            raise ConnectionError(fault.do)
        answer = self._act(request, route, fault, data, whole=whole)
        if not whole:
            count(-1, 0, len(data))
            raise ConnectionError("the body broke off")
        content = answer.read()
        if fault.do == "truncate":
            count(answer.status, len(content) // 2, len(data))
        else:
            count(answer.status, len(content), len(data))
        self._send(answer, content, fault)
        return answer.status

    def _act(
        self, request: Request, route: Route, fault: Fault, data: bytes, *, whole: bool
    ) -> Answer:
        try:
            if fault.status:
                words = fault.message or f"injected {fault.status}"
                raise Refused(fault.status, words, fault.reason)
            if route.needs_token:
                self.store.tokens.demand(request.headers, xml=request.is_xml)
            with self.store.lock:
                answer = route.run(data, whole)
            if fault.do == "done_503":
                raise Refused(503, "injected: done, but answered 503", "backendError")
        except Refused as refusal:
            return refusal.answer(xml=request.is_xml)
        return answer

    def _body(self, fault: Fault) -> tuple[bytes, bool]:
        """Return as much of the body as came, and whether it came whole."""
        data, step = bytearray(), _step(fault)
        breaks_off = fault.do == "drop_upload"
        try:
            for part in self._parts(step):
                data += part
                if breaks_off and 2 * len(data) >= self._length():
                    return bytes(data[: self._length() // 2]), False
                if fault.bytes_per_second:
                    time.sleep(len(part) / fault.bytes_per_second)
        except _GONE:
            return bytes(data), False
        return bytes(data), not breaks_off

    def _length(self) -> int:
        """Return how long the body is to be; TensorFlow's uploads say it elsewhere."""
        span = re.fullmatch(
            r"bytes (\d+)-(\d+)/.*", self.headers.get("Content-Range", "")
        )
        if span:
            return int(span[2]) + 1 - int(span[1])
        return int(self.headers.get("Content-Length") or 0)

    def _parts(self, step: int) -> Iterator[bytes]:
        """Yield the body as it comes; ConnectionError where it ends too early."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self._line().split(b";")[0], 16):
                yield from self._bytes(size, step)
                self._line()
            self._line()
        else:
            yield from self._bytes(int(self.headers.get("Content-Length") or 0), step)

    def _bytes(self, size: int, step: int) -> Iterator[bytes]:
        while size:
            part = self.rfile.read1(min(size, step))
            if not part:
                raise ConnectionError("the body broke off")
            size -= len(part)
            yield part

    def _line(self) -> bytes:
        line = self.rfile.readline()
        if not line:
            raise ConnectionError("the body broke off")
        return line

    def _send(self, answer: Answer, content: bytes, fault: Fault) -> None:
        self.send_response(answer.status)
        headers = {"Content-Type": "application/json; charset=UTF-8", **answer.headers}
        for key, value in headers.items():
            self.send_header(key, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        is_cut = fault.do == "truncate"
        view = memoryview(content)[: len(content) // 2 if is_cut else None]
        step = _step(fault) if fault.bytes_per_second else max(1, len(view))
        for start in range(0, len(view), step):
            self.connection.sendall(view[start : start + step])
            if fault.bytes_per_second:
                time.sleep(step / fault.bytes_per_second)
        if is_cut:
            raise ConnectionError(fault.do)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the time of the Date header: that of the storage's clock."""
        return email.utils.formatdate(timestamp or self.store.now(), usegmt=True)


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
    setattr(Handler, f"do_{_method}", Handler.serve)


def _step(fault: Fault) -> int:
    """Return how many bytes go at once: a tenth of a second, where that is slow."""
    rate = fault.bytes_per_second
    return max(1, int(rate / 10)) if rate else 1 << 20


class Server(socketserver.ThreadingTCPServer):
    """A thread for each connection; `server_close` lets go of what hangs."""

    allow_reuse_address = daemon_threads = True
    request_queue_size = 512
    store: Store

    def server_close(self) -> None:
        """Close the port and the log."""
        super().server_close()
        self.store.stopped.set()
        self.store.counters.close()


def environment(port: int) -> dict[str, str]:
    """Return what leads TensorFlow's gs:// client to a fake, and no other traffic.

    The hosts are compiled into it; what redirects is curl's. Its own GCS_* are read
    when TensorFlow is loaded.
    """
    here = f"127.0.0.1:{port}"
    return {
        "https_proxy": f"http://{here}",  # all that the client asks is https
        "no_proxy": "localhost,127.0.0.1,::1",  # gRPC heeds https_proxy, too
        "CURL_CA_BUNDLE": str(CERTIFICATES / "ca.pem"),
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": FOR_TESTING,  # before files and metadata
        "GCE_METADATA_HOST": here,
        "GCE_METADATA_IP": here,  # where google-auth looks whether there is one
    }


def serve(
    folder: str | Path, port: int = 0, **options: Any
) -> tuple[Server, Store, dict[str, str]]:
    """Serve a store from threads of this process.

    Args:
      folder: gets `environment`, for a shell to source.
      port: on loopback; any without one.
      **options: of Store.

    Returns:
      The server (`shutdown()`, `server_close()`), the store, and what a process needs
      in its environment to find it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    store = Store(**options)
    handler = type("Bound", (Handler,), {"store": store, "context": context})
    server = Server(("127.0.0.1", port), handler)
    server.store = store
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    found = environment(server.server_address[1])
    Path(folder).mkdir(parents=True, exist_ok=True)
    lines = (f"export {key}={shlex.quote(value)}\n" for key, value in found.items())
    (Path(folder) / "environment").write_text("".join(lines))
    return server, store, found
