"""Who may ask: bearer tokens, and the metadata server that hands them out."""

import threading
import time
from collections.abc import Mapping

from tests.support.fake_gcs.answers import Answer, Refused, json_answer

FOR_TESTING = "fake"  # what GOOGLE_AUTH_TOKEN_FOR_TESTING says; it does not expire
_ATTRIBUTES = {
    "instance/zone": b"projects/1/zones/us-central1-a",
    "project/project-id": b"fake",
    # What Google's own libraries ask for before a token.
    "instance/service-accounts/default/": b'{"email": "default", "scopes": []}',
}


class Tokens:
    """Tokens that are good, and until when.

    Attributes:
      seconds: for which a new one is good, as the metadata server says.
    """

    def __init__(self) -> None:
        self.seconds = 3599.0
        self._lock = threading.Lock()
        self._until = {FOR_TESTING: float("inf")}

    def issue(self) -> Answer:
        """Answer with a new token."""
        with self._lock:
            token = f"fake-{len(self._until)}"
            self._until[token] = time.monotonic() + self.seconds
        return json_answer(
            {
                "access_token": token,
                "expires_in": int(self.seconds),
                "token_type": "Bearer",
            }
        )

    def revoke(self) -> None:
        """Let no token be good that was handed out so far."""
        with self._lock:
            self._until = dict.fromkeys(self._until, 0.0)

    def demand(self, headers: Mapping[str, str], *, xml: bool) -> None:
        """Refuse who shows none, or none that is good."""
        shown = headers.get("Authorization", "")
        if not shown:
            raise Refused(
                403 if xml else 401,
                "Anonymous caller does not have storage.objects access to the Google "
                "Cloud Storage object. Permission denied on resource (or it may not "
                "exist).",
                "required",
            )
        with self._lock:
            until = self._until.get(shown.removeprefix("Bearer "), 0.0)
        if until < time.monotonic():
            raise Refused(401, "Invalid Credentials", "authError")


def metadata(path: str, headers: Mapping[str, str], tokens: Tokens) -> Answer:
    """Answer as the metadata server of a VM.

    Args:
      path: behind computeMetadata/v1/.
      headers: of the request.
      tokens: to take one from.
    """
    if headers.get("Metadata-Flavor") != "Google":
        return Answer(403, content=b"Missing Metadata-Flavor:Google header.")
    if path.endswith("service-accounts/default/token"):
        answer = tokens.issue()
    else:
        answer = Answer(200 if path in _ATTRIBUTES else 404)
        answer.content = _ATTRIBUTES.get(path, b"")
    answer.headers |= {"Metadata-Flavor": "Google", "Content-Type": "application/json"}
    return answer
