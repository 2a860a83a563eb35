"""Asks Google's services, and changes nothing there.

Every request is a GET, or a POST to a method that only tells: `testIamPermissions` and
`getIamPolicy`. Tokens go to Google's own hosts alone and into no message. Proxies and
certificates are those of the environment, as `common.gcs` takes them.

The answers' fields are those of Google's discovery documents of tpu v2, compute v1,
serviceusage v1 and v1beta1, cloudresourcemanager v3, iam v1 and storage v1 (autumn of
2026, as google-api-python-client 2.202.0 brings them). No answer of Google itself has
been seen here.
"""

import datetime
import os
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from common import gcs
from common.errors import one_line
from launch.doctor.findings import NotAnswered
from launch.doctor.identity import Identity

SERVICES = {
    "cloudresourcemanager": "https://cloudresourcemanager.googleapis.com/v3",
    "compute": "https://compute.googleapis.com/compute/v1",
    "iam": "https://iam.googleapis.com/v1",
    "quota": "https://serviceusage.googleapis.com/v1beta1",
    "serviceusage": "https://serviceusage.googleapis.com/v1",
    "storage": "https://storage.googleapis.com/storage/v1",
    "tpu": "https://tpu.googleapis.com/v2",
}
_REGISTRIES = (".pkg.dev", ".gcr.io")
_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 30.0
_TRIES = 3
_REFUSED, _NOT_FOUND, _TOO_MANY = 403, 404, 429
_SHOWN = 240  # characters of a message of Google's


class Object(NamedTuple):
    """A small object of a bucket.

    Attributes:
      content: of it.
      age: in seconds, by the storage's own clock.
    """

    content: bytes
    age: float


class Google:
    """Google's services, as one person or machine may look at them.

    All of its methods raise NotAnswered where that cannot be: no credentials, no
    permission, a service that is off or does not answer.
    """

    def __init__(self, identity: Identity, session: Any, *, delay: float = 1.0):
        """Ask by a session.

        Args:
          identity: who asks.
          session: of requests, which adds the token.
          delay: in seconds, before the second try; the third waits twice as long.
        """
        self.identity = identity
        self._session = session
        self._delay = delay
        self._silent: dict[str, str] = {}  # by host, why it is not asked again

    def get(self, service: str, path: str, **query: Any) -> dict[str, Any] | None:
        """Return an answer, None where there is no such thing.

        Args:
          service: of SERVICES.
          path: below it; names in it are `quoted`.
          **query: of the URL.
        """
        answer = self._ask("GET", f"{SERVICES[service]}/{path}", params=query)
        return None if answer.status_code == _NOT_FOUND else _json(answer)

    def pages(
        self, service: str, path: str, field: str, **query: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield what all pages of a listing have in a field; see `get`."""
        while True:
            answer = self.get(service, path, **query)
            if answer is None:
                raise NotAnswered(f"there is no {path} of {service}")
            if away := answer.get("unreachable"):
                raise NotAnswered(f"{', '.join(away)} does not answer now")
            yield from answer.get(field, ())
            if not (token := answer.get("nextPageToken")):
                return
            query["pageToken"] = token

    def granted(
        self, service: str, path: str, permissions: Iterable[str]
    ) -> set[str] | None:
        """Return which of some permissions the asker has, None of what there is not."""
        url = f"{SERVICES[service]}/{path}:testIamPermissions"
        answer = self._ask("POST", url, json={"permissions": list(permissions)})
        if answer.status_code == _NOT_FOUND:
            return None
        return set(_json(answer).get("permissions", ()))

    def project_policy(self, project: str) -> dict[str, Any]:
        """Return who has which roles in a project."""
        url = f"{SERVICES['cloudresourcemanager']}/projects/{project}:getIamPolicy"
        return _json(self._ask("POST", url, json={}))

    def read(self, path: str) -> Object | None:
        """Return a small object of gs://bucket/name, None where there is none."""
        bucket, _, name = path.removeprefix(gcs.SCHEME).partition("/")
        url = f"{SERVICES['storage']}/b/{gcs.quoted(bucket)}/o/{gcs.quoted(name)}"
        about = self._ask("GET", url, params={"fields": "generation,updated"})
        if about.status_code == _NOT_FOUND:
            return None
        updated = datetime.datetime.fromisoformat(_json(about)["updated"])
        age = parsedate_to_datetime(about.headers["Date"]) - updated
        answer = self._ask("GET", url, params={"alt": "media"})
        if answer.status_code == _NOT_FOUND:
            return None
        return Object(answer.content, max(0.0, age.total_seconds()))

    def list(self, folder: str) -> dict[str, int]:
        """Return the sizes of all objects below gs://bucket/folder, by their names."""
        bucket, _, prefix = folder.removeprefix(gcs.SCHEME).partition("/")
        prefix = f"{prefix}/" if prefix else ""
        found = self.pages(
            "storage",
            f"b/{gcs.quoted(bucket)}/o",
            "items",
            prefix=prefix,
            fields="items(name,size),nextPageToken",
        )
        return {one["name"].removeprefix(prefix): int(one["size"]) for one in found}

    def registry(self, host: str, path: str) -> dict[str, Any] | None:
        """Return an answer of a registry of images, None where there is no such image.

        Args:
          host: the registry; a token is shown to Google's alone.
          path: below /v2/.
        """
        if not host.endswith(_REGISTRIES):
            raise NotAnswered(f"{host} is not Google's: it is not asked")
        accept = (
            "application/vnd.oci.image.index.v1+json,"
            "application/vnd.oci.image.manifest.v1+json,"
            "application/vnd.docker.distribution.manifest.list.v2+json,"
            "application/vnd.docker.distribution.manifest.v2+json"
        )
        url = f"https://{host}/v2/{path}"
        answer = self._ask("GET", url, headers={"Accept": accept})
        return None if answer.status_code == _NOT_FOUND else _json(answer)

    def _ask(self, method: str, url: str, **options: Any) -> Any:
        """Return an answer that is one, 404 too."""
        if self.identity.why_not:
            raise NotAnswered("no credentials")
        host = urllib.parse.urlsplit(url).hostname or ""
        if why := self._silent.get(host):
            raise NotAnswered(why)
        why = ""
        for tries in range(_TRIES):
            time.sleep(self._delay * tries)
            answer, why = self._try(method, url, host, options)
            if answer is not None:
                return answer
        self._silent[host] = why
        raise NotAnswered(why)

    def _try(
        self, method: str, url: str, host: str, options: Mapping[str, Any]
    ) -> tuple[Any, str]:
        """Return an answer, or None and why there is none now."""
        from google.auth import exceptions
        from requests import RequestException

        try:
            answer = self._session.request(
                method,
                url,
                timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS),
                verify=os.environ.get("CURL_CA_BUNDLE") or True,
                **options,
            )
        except exceptions.GoogleAuthError as error:
            raise NotAnswered(f"no token: {one_line(error)[:_SHOWN]}") from error
        except RequestException as error:
            inner = error.args[0] if error.args else error
            reason = one_line(getattr(inner, "reason", None) or error)
            return None, f"{host} does not answer: {reason[:_SHOWN]}"
        if answer.status_code == _TOO_MANY or answer.status_code >= 500:
            return None, f"{host} does not answer now: {_message(answer)}"
        if not answer.ok and answer.status_code != _NOT_FOUND:
            raise NotAnswered(f"{host} refuses: {_message(answer)}")
        return answer, ""


def _json(answer: Any) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:  # of a proxy on the way
        found = None
    if not isinstance(found, dict):
        host = urllib.parse.urlsplit(answer.url).hostname
        raise NotAnswered(f"{host} does not answer as Google does")
    return found


def _message(answer: Any) -> str:
    return f"{answer.status_code}: {gcs.message(answer)[:_SHOWN]}"
