"""Who asks Google, by the credentials that its own libraries find."""

import contextlib
import dataclasses
import logging
import warnings
from typing import Any

from common.errors import one_line

# Not the one that may only read: of TPUs and of IAM no service takes that.
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """Who asks.

    Attributes:
      credentials: of google-auth; None where none were found.
      project: that goes with them.
      quota_project: whose quotas requests count against, if they say so.
      why_not: why there are none that are of use.
    """

    credentials: Any = None
    project: str | None = None
    quota_project: str | None = None
    why_not: str = ""

    @property
    def name(self) -> str:
        """In words; no secret is in it."""
        email = getattr(self.credentials, "service_account_email", None)
        return f"the service account {email}" if email else "a person's"


def find(project: str) -> Identity:
    """Return who this process is to Google.

    Args:
      project: whose quotas requests count against where the credentials name none, as
        Google wants of a person.
    """
    import google.auth
    from google.auth import exceptions

    logging.getLogger("google.auth").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():  # of quotas of a person's own
            warnings.simplefilter("ignore")
            credentials, default_project = google.auth.default(scopes=_SCOPES)
    except (exceptions.GoogleAuthError, OSError, ValueError) as error:
        return Identity(why_not=one_line(error).partition(". ")[0])
    quota_project = getattr(credentials, "quota_project_id", None)
    return Identity(
        credentials=_with_quotas(credentials, quota_project or project),
        project=default_project,
        quota_project=quota_project,
        why_not=_why_no_token(credentials),
    )


def session(identity: Identity) -> Any:
    """Return connections that show an identity's token."""
    from google.auth.transport import requests

    return requests.AuthorizedSession(identity.credentials)


def _with_quotas(credentials: Any, project: str) -> Any:
    """Return a person's credentials that name a project; others have their own."""
    with contextlib.suppress(AttributeError, NotImplementedError):
        if not hasattr(credentials, "service_account_email"):
            return credentials.with_quota_project(project)
    return credentials


def _why_no_token(credentials: Any) -> str:
    """Return why no token is to be had, "" where there is one."""
    from google.auth import exceptions
    from google.auth.transport.requests import Request

    try:
        if not credentials.valid:
            credentials.refresh(Request())
    except (exceptions.GoogleAuthError, OSError, ValueError) as error:
        return one_line(error)[:200]
    return ""
