"""What goes wrong besides the compiler's own verdicts."""

from common.errors import UserError


class CompilerError(UserError):
    """One line for a person: what is wrong, where, and how to mend it."""
