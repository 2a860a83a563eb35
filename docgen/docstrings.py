"""What docstrings say of arguments and fields."""

import inspect
import re
from typing import Any


def described(documented: Any, section: str = "Args") -> dict[str, str]:
    """Return what a section of a docstring says, by name.

    Args:
      documented: a function, a class or a module.
      section: its title, "Args" or "Attributes".
    """
    doc = inspect.cleandoc(documented.__doc__ or "") + "\n"
    found = re.search(rf"^{section}:\n((?:  .*\n|\n)*)", doc, re.MULTILINE)
    entries = re.findall(
        r"^  (\w+): (.*\n(?:    .*\n)*)", found[1] if found else "", re.MULTILINE
    )
    return {name: " ".join(text.split()) for name, text in entries}


def first_paragraph(doc: str | None) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join(inspect.cleandoc(doc or "").partition("\n\n")[0].split())
