"""What stands above a setting of the command line: the imports of gin.

A setting of the command line may name what the files before it have imported, a user's
own modules among them. gin itself is not imported.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from common.gin_messages import REGISTRATION


def modules(parsed: Any) -> Iterator[str]:
    """Yield the modules that a text imports, and the files that it includes.

    Args:
      parsed: what `gin.parse_config` has returned, or `gin.parse_config_file`.
    """
    includes, imports = (
        (parsed.includes, parsed.imports) if hasattr(parsed, "includes") else parsed
    )
    yield from (one for one in imports if not one.startswith("__gin__."))
    for one in includes:
        yield from modules(one)


def lines(own: Iterable[str], of_files: Iterable[str] = ()) -> str:
    """Return the lines that import modules by the last part of their names.

    Args:
      own: modules that are always there, by their full names.
      of_files: those that files have imported. What would have the name of another one
        is left out: it would be the other.
    """
    taken = {module.rpartition(".")[2]: module for module in own}
    strangers = [one for one in dict.fromkeys(of_files) if one not in taken.values()]
    names = [one.rpartition(".")[2] for one in strangers]
    for module, name in zip(strangers, names, strict=True):
        if names.count(name) == 1:
            taken.setdefault(name, module)
    return "".join(f"{line}\n" for line in [REGISTRATION, *map(_line, taken.values())])


def _line(module: str) -> str:
    package, _, name = module.rpartition(".")
    return f"from {package} import {name}" if package else f"import {name}"
