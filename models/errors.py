"""What this package raises at people."""

from common.errors import UserError


class ModelError(UserError, ValueError):
    """A request for a model that does not exist or cannot be built."""


def require(condition: bool, message: str) -> None:
    """Raise ModelError(message) unless the condition holds."""
    if not condition:
        raise ModelError(message)
