"""What goes wrong besides what the compiler itself says of a module."""

from common.errors import UserError


class CompilerError(UserError):
    """One line for a person: what is wrong, where, and how to mend it."""
