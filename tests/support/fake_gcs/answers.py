"""A request and its answer, before TLS and behind it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """What a client asks, without the body.

    Attributes:
      method: GET, PUT ...
      host: whom it takes us for.
      path: as it was sent.
      parts: of the path between its slashes, unquoted.
      query: of the URL, unquoted.
      headers: with names as Content-Type.
    """

    method: str
    host: str
    path: str
    parts: list[str]
    query: dict[str, str]
    headers: Mapping[str, str]

    @property
    def is_xml(self) -> bool:
        """Whether it is one of the XML API, by which TensorFlow reads."""
        apis = ("storage", "upload", "download", "oauth2")
        return self.host == "storage.googleapis.com" and self.parts[0] not in apis


@dataclass
class Answer:
    """Status, headers and content; a callable is asked for it outside of all locks."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | Callable[[], bytes] = b""

    def read(self) -> bytes:
        """Return the content."""
        return self.content if isinstance(self.content, bytes) else self.content()


class Refused(Exception):  # noqa: N818 - an answer, too
    """An answer that is not 2xx."""

    def __init__(
        self,
        status: int,
        message: str,
        reason: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.headers = status, reason, headers or {}

    def answer(self, *, xml: bool) -> Answer:
        """Say it in the words of the JSON or of the XML API."""
        return Answer(
            self.status,
            {**self.headers, **({"Content-Type": "application/xml"} if xml else {})},
            self._xml() if xml else self._json(),
        )

    def _xml(self) -> bytes:
        codes = {
            401: "AuthenticationRequired",
            403: "AccessDenied",
            404: "NoSuchKey",
            412: "PreconditionFailed",
            416: "InvalidRange",
            429: "SlowDown",
        }
        code = codes.get(self.status, "InternalError")
        return (
            "<?xml version='1.0' encoding='UTF-8'?>"
            f"<Error><Code>{code}</Code><Message>{self}</Message></Error>"
        ).encode()

    def _json(self) -> bytes:
        text = str(self)
        detail = {"message": text, "domain": "global", "reason": self.reason}
        error = {"code": self.status, "message": text, "errors": [detail]}
        return json.dumps({"error": error}).encode()


def json_answer(value: Any, status: int = 200) -> Answer:
    """Answer with a value as JSON."""
    return Answer(status, content=json.dumps(value).encode())
