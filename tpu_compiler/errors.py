"""What goes wrong besides what the compiler itself says of a module."""

from common.errors import UserError


class CompilerError(UserError):
    """One line for a person: what is wrong, where, and how to mend it."""


class UnusableCompilerError(CompilerError):
    """No module can be compiled here: no compiler, or no folder for what it says."""
