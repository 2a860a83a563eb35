"""The one exception that this package raises at people."""


class DataError(ValueError):
    """Says in one line what is wrong with the data, where, and how to mend it."""
