"""Google's services for the doctor: what they say is in files, and every request kept.

The files are written by hand after Google's discovery documents; see
launch.doctor.google. Nobody has seen an answer of Google's own here.
"""

import copy
import email.utils
import json
import time
import urllib.parse
from pathlib import Path
from typing import Any

import requests
from google.oauth2.credentials import Credentials
from requests.adapters import BaseAdapter

from launch.doctor.case import Case
from launch.doctor.checks import CHECKS, NODE_CHECKS, examine
from launch.doctor.google import Google
from launch.doctor.identity import Identity, session
from launch.doctor.report import line

ANSWERS = Path(__file__).parents[1] / "launch/doctor/answers"
TOKEN = "ya29.a-token-that-nobody-may-read"
_BUCKET = "https://storage.googleapis.com/storage/v1/b/my-bucket/o"


class FakeGoogle(BaseAdapter):
    """What answers in place of Google.

    Attributes:
      said: by the name of its file, what is answered; None is 404, a number another
        status, an exception that nobody is there. A list is an answer a request.
      objects: of gs://my-bucket, by name, with their age in seconds.
      asked: method and URL of each request, without its query.
    """

    def __init__(self):
        super().__init__()
        files = {path.stem: json.loads(path.read_text()) for path in ANSWERS.iterdir()}
        self._names = {one["request"]: name for name, one in files.items()}
        self.said: dict[str, Any] = {
            name: copy.deepcopy(one["answer"]) for name, one in files.items()
        }
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.asked: list[str] = []
        self.sent: list[requests.PreparedRequest] = []

    def send(self, request: Any, *_: Any, **__: Any) -> requests.Response:
        """Answer a request."""
        url, _, query = request.url.partition("?")
        self.sent.append(request)
        self.asked.append(f"{request.method} {url}")
        if url.startswith(_BUCKET):
            return self._storage(request, url, dict(urllib.parse.parse_qsl(query)))
        name = self._names.get(self.asked[-1])
        said = self.said[name] if name else None
        if isinstance(said, list):
            said = said.pop(0)
        if isinstance(said, Exception):
            raise said
        if isinstance(said, int):
            return _answer(request, said, {"error": {"message": "as a test has it"}})
        return _answer(request, 404 if said is None else 200, said or {})

    def _storage(self, request: Any, url: str, query: Any) -> requests.Response:
        name = urllib.parse.unquote(url.removeprefix(_BUCKET).lstrip("/"))
        if not name:
            items = [
                {"name": one, "size": str(len(content))}
                for one, (content, _) in sorted(self.objects.items())
                if one.startswith(query["prefix"])
            ]
            return _answer(request, 200, {"items": items})
        if name not in self.objects:
            return _answer(request, 404, {})
        content, age = self.objects[name]
        if query.get("alt") == "media":
            return _answer(request, 200, content)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age))
        return _answer(request, 200, {"generation": "1", "updated": stamp})

    def close(self) -> None:
        """Close nothing."""


def _answer(request: Any, status: int, said: Any) -> requests.Response:
    answer = requests.Response()
    answer.status_code, answer.request, answer.url = status, request, request.url
    answer.headers["Date"] = email.utils.formatdate(usegmt=True)
    answer._content = said if isinstance(said, bytes) else json.dumps(said).encode()
    return answer


def client(google: FakeGoogle, **who: Any) -> Google:
    """Return a client of it, with a token."""
    identity = Identity(**{"credentials": Credentials(TOKEN), **who})
    ours = session(identity)
    ours.mount("https://", google)
    return Google(identity, ours, delay=0)


def case_of(google: FakeGoogle, path: Any, **options: Any) -> Case:
    """Return a job for the checks, and what it asks."""
    case = Case(**{"path": str(path), "engine": "gcloud", **options})
    case.google = client(google)
    return case


def line_of(case: Case, number: int) -> str:
    """Return the line of one check, without its number."""
    check = (CHECKS + NODE_CHECKS)[number - 1]
    row = examine(number, check, case)
    text = line(row)
    start = f"{number:2}  "
    assert text.startswith(start)
    return text.removeprefix(start)
