"""What goes wrong besides the compiler's own verdicts."""


class CompilerError(Exception):
    """One line for a person: what is wrong, where, and how to mend it."""
