"""What TensorFlow's client of Google Cloud Storage cannot say: only if nobody did else.

Each object has a generation, a number that every write replaces by a larger one. A
request may name the one that it has seen, and does nothing where another stands by
then: that is how two processes settle who was first. 0 is that of no object.

Credentials, proxy and certificates are those that TensorFlow finds. A request that is
not answered, or whose answer says that the storage is busy, is sent again, so it may
have been done twice: then it names a generation that is no more, and answers as if
somebody else had been faster. Whoever asks has to look whether that was itself.
"""

import datetime
import functools
import json
import logging
import os
import threading
import time
import urllib.parse
import warnings
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from common.errors import Restart, UserError, one_line

SCHEME = "gs://"
PATIENCE_SECONDS = 90.0  # for a storage that is busy
_ROOT = "https://storage.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_ANSWER_SECONDS = 30.0  # within which the next byte of an answer has to come
_SLOWEST = 32.0  # between two tries, as of TensorFlow's client
_LIMITED = 1.0  # an object may be written once a second
_NOT_FOUND, _TIMEOUT, _CHANGED, _TOO_MANY = 404, 408, 412, 429
# What is said of a credential that was revoked, or is none, by RFC 6749.
_REVOKED = ("invalid_grant", "invalid_client", "unauthorized_client")
_BOUNDARY = "a_boundary_that_no_json_holds"

_of_thread = threading.local()


class Refused(UserError):  # noqa: N818 (a state, whoever is to blame)
    """The storage does not let this process do something there."""


class NoToken(Refused):
    """There is no access token, and to wait brings none."""


class Found(NamedTuple):
    """An object that is there.

    Attributes:
      generation: of its content.
      age: of that, in seconds by the storage's own clock.
    """

    generation: int
    age: float


def look(path: str, *, patience: float = PATIENCE_SECONDS) -> Found | None:
    """Return what is known of an object, None where there is none.

    Args:
      path: gs://bucket/name.
      patience: seconds after which a storage that is busy is given up.

    Raises:
      Refused: it may not be looked at.
      Restart: the storage does not answer now.
    """
    fields = {"fields": "generation,updated"}
    answer = _ask("GET", path, _url(path), fields, patience=patience)
    if answer.status_code == _NOT_FOUND:
        return None
    found = answer.json()
    updated = datetime.datetime.fromisoformat(found["updated"])
    now = parsedate_to_datetime(answer.headers["Date"])
    return Found(int(found["generation"]), (now - updated).total_seconds())


def read(
    path: str, generation: int | None = None, *, patience: float = PATIENCE_SECONDS
) -> bytes | None:
    """Return the content of an object, None where there is no such one.

    Args:
      path: as of `look`, as are the errors.
      generation: which is meant; None for whatever is there now.
      patience: as of `look`.
    """
    query = {"alt": "media"}
    if generation is not None:
        query["ifGenerationMatch"] = str(generation)
    answer = _ask("GET", path, _url(path), query, patience=patience)
    return answer.content if answer.ok else None


def names(folder: str, begin: str, *, patience: float = PATIENCE_SECONDS) -> list[str]:
    """Return the names of a folder's own objects that begin so, without the folder.

    Args:
      folder: gs://bucket/folder.
      begin: of the names that are meant.
      patience: as of `look`, as are the errors.
    """
    bucket, name = _parts(f"{folder}/")
    query = {
        "prefix": f"{name}{begin}",
        "delimiter": "/",
        "fields": "items(name),nextPageToken",
    }
    found = []
    while True:
        url = f"{_ROOT}/storage/v1/b/{quoted(bucket)}/o"
        answer = _ask("GET", folder, url, query, patience=patience)
        if not answer.ok:
            raise _refused("list", folder, answer)
        said = answer.json()
        found += [one["name"].removeprefix(name) for one in said.get("items", ())]
        if "nextPageToken" not in said:
            return found
        query["pageToken"] = said["nextPageToken"]


def write(
    path: str, data: bytes, generation: int, *, patience: float = PATIENCE_SECONDS
) -> int | None:
    """Write a small object in place of a generation of it.

    Args:
      path: as of `look`, as are the errors.
      data: the content, JSON. No cache on the way may keep it.
      generation: that is replaced; 0 where none may be.
      patience: as of `look`.

    Returns:
      The new generation; None where another stands there, perhaps by this request.
    """
    bucket, name = _parts(path)
    about = json.dumps({"name": name, "cacheControl": "no-store"}).encode()
    head = b"Content-Type: application/json\r\n\r\n"
    line = f"--{_BOUNDARY}".encode()
    body = [line, head + about, line, head + data, line + b"--", b""]
    answer = _ask(
        "POST",
        path,
        f"{_ROOT}/upload/storage/v1/b/{quoted(bucket)}/o",
        {"uploadType": "multipart", "ifGenerationMatch": str(generation)},
        headers={"Content-Type": f"multipart/related; boundary={_BOUNDARY}"},
        data=b"\r\n".join(body),
        patience=patience,
    )
    if answer.status_code == _NOT_FOUND:
        raise _refused("write", path, answer)
    return int(answer.json()["generation"]) if answer.ok else None


def remove(path: str, generation: int, *, patience: float = PATIENCE_SECONDS) -> bool:
    """Remove a generation of an object; False where another stands there.

    Arguments and errors are those of `look`. One that is gone counts as removed.
    """
    query = {"ifGenerationMatch": str(generation)}
    answer = _ask("DELETE", path, _url(path), query, patience=patience)
    return answer.status_code != _CHANGED


def copy(source: str, target: str, generation: int) -> bool:
    """Copy an object in place of a generation of another; the storage does it itself.

    Args:
      source: gs://bucket/name.
      target: likewise; it may be the same, whose generation is a new one then.
      generation: of the target, that is replaced; 0 where none may be.

    Returns:
      Whether it is done: not so where another generation stands there, perhaps by this
      request, or where the source is gone.

    Raises:
      Refused, Restart: as of `look`.
    """
    url = f"{_url(source)}/rewriteTo{_resource(target)}"
    query = {"ifGenerationMatch": str(generation)}
    while True:
        answer = _ask("POST", target, url, query)
        if not answer.ok:
            return False
        said = answer.json()
        if said["done"]:
            return True
        query["rewriteToken"] = said["rewriteToken"]  # of a large one, part by part


def compose(parts: Sequence[str], target: str, generation: int) -> int | None:
    """Join objects of one bucket to one of their contents; the storage does it itself.

    Args:
      parts: gs://bucket/name of each, 32 at most; the target may be one of them.
      target: likewise.
      generation: of the target, that is replaced; 0 where none may be.

    Returns:
      The new generation; None where another stands there, perhaps by this request, or
      where a part is gone.

    Raises:
      Refused: it may not be done, or these cannot be joined.
      Restart: as of `look`.
    """
    answer = _ask(
        "POST",
        target,
        f"{_url(target)}/compose",
        {"ifGenerationMatch": str(generation)},
        json={"sourceObjects": [{"name": _parts(part)[1]} for part in parts]},
    )
    return int(answer.json()["generation"]) if answer.ok else None


def forget_connections() -> None:
    """Look for credentials, proxy and certificates anew, in this thread."""
    close_connections()
    _credentials.cache_clear()


def close_connections() -> None:
    """Close the connections of this thread, which is to end."""
    if hasattr(_of_thread, "session"):
        _of_thread.session.close()
        del _of_thread.session


def has_token() -> bool:
    """Whether there is a token to be had now; it may take long to say no."""
    from google.auth import exceptions
    from google.auth.transport.requests import Request

    try:
        credentials = _credentials()
        if not credentials.valid:
            credentials.refresh(Request())
    except (exceptions.GoogleAuthError, OSError, ValueError):
        return False
    return True


def _ask(
    method: str,
    path: str,
    url: str,
    query: Mapping[str, str],
    *,
    patience: float = PATIENCE_SECONDS,
    **options: Any,
) -> Any:
    """Return an answer that is one, 404 and 412 too.

    Raises:
      Refused: it is another; NoToken, its kind, if nobody could ask.
      Restart: there was none.
    """
    from google.auth import exceptions
    from requests import RequestException

    began, why = time.monotonic(), ""
    for delay in _delays():
        try:
            answer = _session().request(
                method,
                url,
                params=query,
                timeout=_answer_seconds(),
                # As TensorFlow's; that of requests, if there is one, else.
                verify=os.environ.get("CURL_CA_BUNDLE") or True,
                **options,
            )
        except exceptions.DefaultCredentialsError as error:
            raise NoToken(f"cannot reach {path}: {one_line(error)}") from error
        except (RequestException, exceptions.GoogleAuthError) as error:
            if missing := _why_no_token(error):
                raise NoToken(f"cannot reach {path}: {missing}") from error
            inner = error.args[0] if error.args else error
            why = one_line(getattr(inner, "reason", None) or error)
        else:
            if answer.ok or answer.status_code in (_NOT_FOUND, _CHANGED):
                return answer
            if not _is_busy(answer.status_code):
                raise _refused("look at" if method == "GET" else "write", path, answer)
            why = f"{answer.status_code}: {message(answer)}"
            if answer.status_code == _TOO_MANY:
                delay = max(delay, _LIMITED)
        left = began + patience - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(delay, left))  # so that the last try is at the end
    raise Restart(f"{path} cannot be reached now: {why}")


def _why_no_token(error: Exception) -> str | None:
    """Return why no token will come, and what helps; None where one may."""
    from google.auth import exceptions

    if not isinstance(error, exceptions.RefreshError) or not error.args:
        return None
    first, said = error.args[0], error.args[-1]
    if isinstance(said, Mapping) and said.get("error") in _REVOKED:
        return (
            f"{' '.join(str(first).split())}; log in again (gcloud auth "
            "application-default login), or name another key"
        )
    # Of the metadata server, whose answer stands behind its words.
    answers = first.args[1:] if isinstance(first, exceptions.TransportError) else ()
    if any(getattr(one, "status", None) == _NOT_FOUND for one in answers):
        return (
            "this machine has no service account; give it one, or log in (gcloud auth "
            "application-default login)"
        )
    return None


def _is_busy(status: int) -> bool:
    return status in (_TIMEOUT, _TOO_MANY) or status >= 500


def _refused(do: str, path: str, answer: Any) -> Refused:
    return Refused(
        f"cannot {do} {path}: {answer.status_code}: {message(answer)}; mend the name "
        "or the permissions (roles/storage.objectUser has all), or name another folder"
    )


def message(answer: Any) -> str:
    """Return what an answer of Google's says of a refusal, in a line."""
    try:
        text = str(answer.json()["error"]["message"])
    except (ValueError, TypeError, KeyError):  # of a proxy on the way
        text = str(answer.text or answer.reason)[:200]
    return " ".join(text.split())


def _delays() -> Iterator[float]:
    """Yield how long to wait after each try; settings are those of TensorFlow's."""
    first = _setting("GCS_RETRY_CONFIG_INIT_DELAY_TIME_US", 1e6) / 1e6
    for tries in range(int(_setting("GCS_RETRY_CONFIG_MAX_RETRIES", 10)) + 1):
        yield min(first * 2**tries, _SLOWEST)


def _answer_seconds() -> float:
    return min(_setting("GCS_REQUEST_IDLE_TIMEOUT_SECS", 60.0), _ANSWER_SECONDS)


def _setting(name: str, default: float) -> float:
    try:
        return float(os.environ[name])
    except (KeyError, ValueError):
        return default


def _url(path: str) -> str:
    return f"{_ROOT}/storage/v1{_resource(path)}"


def _resource(path: str) -> str:
    """Return an object as it is named behind the version of the interface."""
    bucket, name = _parts(path)
    return f"/b/{quoted(bucket)}/o/{quoted(name)}"


def _parts(path: str) -> tuple[str, str]:
    """Return the bucket and the name of gs://bucket/name."""
    bucket, _, name = path.removeprefix(SCHEME).partition("/")
    return bucket, name


def quoted(text: str) -> str:
    """Return a name as a part of a URL's path."""
    return urllib.parse.quote(text, safe="")


def _session() -> Any:
    """Return this thread's connections: they take proxies as curl does."""
    from google.auth.transport import requests

    if not hasattr(_of_thread, "session"):
        _of_thread.session = requests.AuthorizedSession(_credentials())
    return _of_thread.session


@functools.cache
def _credentials() -> Any:
    """Return what TensorFlow takes: a token, a person's or key's file, the machine's.

    Not google.auth.default, which finds others, too, and starts gcloud to do so.
    """
    import google.auth
    from google.auth import compute_engine
    from google.oauth2 import credentials

    # It warns of each of its tries; what has come of them is said once, by us.
    logging.getLogger("google.auth").setLevel(logging.ERROR)
    if token := os.environ.get("GOOGLE_AUTH_TOKEN_FOR_TESTING"):
        return credentials.Credentials(token)
    for path in (os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"), _of_gcloud()):
        if path and os.path.exists(path):
            with warnings.catch_warnings():  # of quotas of a person's own
                warnings.simplefilter("ignore")
                found, _ = google.auth.load_credentials_from_file(path, scopes=[_SCOPE])
            return found
    return compute_engine.Credentials()


def _of_gcloud() -> str:
    """Return the file of `gcloud auth application-default login`."""
    folder = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")
    return f"{folder}/application_default_credentials.json"
