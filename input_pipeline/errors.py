"""The one exception that this package raises at people."""

from common.errors import UserError


class DataError(UserError):
    """Says in one line what is wrong with the data, where, and how to mend it."""
