"""The text of a gin file: how it writes what gin has read, and what it binds."""

import math
from collections.abc import Iterator
from typing import Any

from gin import config_parser
from gin.config import Configurable, ConfigurableReference

from train.settings.functions import MODULES


def full_name(target: Configurable) -> str:
    """Return the module and the name of a function; gin's selector has its alias."""
    if target.import_source is None:  # gin's own, or registered by its own module
        return target.selector
    statement, name = target.import_source
    return f"{statement.module}.{name}"


class Names:
    """Names of functions as a gin file has them, which imports their modules."""

    def __init__(self):
        self._aliases = {module: module.rpartition(".")[2] for module in MODULES}

    def of(self, selector: str) -> str:
        """Return the name of a function in the file, from its full name."""
        module, _, function = selector.rpartition(".")
        if module not in self._aliases:
            alias = module.rpartition(".")[2]
            taken = alias in self._aliases.values()
            self._aliases[module] = module.replace(".", "_") if taken else alias
        return f"{self._aliases[module]}.{function}"

    def selector(self, name: str) -> str:
        """Return the full name of a function, from that in the file."""
        alias, _, function = name.rpartition(".")
        for module, known in self._aliases.items():
            if known == alias:
                return f"{module}.{function}"
        return name

    def imports(self) -> list[str]:
        """Return the lines of the file that import all modules named so far."""
        lines = ["from __gin__ import dynamic_registration"]
        for module, alias in sorted(self._aliases.items()):
            package, _, name = module.rpartition(".")
            line = f"from {package} import {name}" if package else f"import {name}"
            lines.append(line if alias == name else f"{line} as {alias}")
        return lines

    def written(self, value: Any) -> str | None:
        """Return a value as a gin file has it; None where it cannot stand there."""
        if isinstance(value, ConfigurableReference):
            name = "/".join([*value.scopes, self.of(full_name(value.configurable))])
            return f"@{name}{'()' * value.evaluate}"
        if isinstance(value, dict):
            items = ((self.written(k), self.written(v)) for k, v in value.items())
            parts = [None if k is None or v is None else f"{k}: {v}" for k, v in items]
            return _between("{", parts, "}")
        if isinstance(value, list):
            return _between("[", list(map(self.written, value)), "]")
        if isinstance(value, tuple):
            comma = "," if len(value) == 1 else ""
            return _between("(", list(map(self.written, value)), f"{comma})")
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else repr(value).replace("inf", "1e999")
        simple = value is None or isinstance(value, bool | int | float | str | bytes)
        return repr(value) if simple else None


def _between(opening: str, parts: list[str | None], closing: str) -> str | None:
    known = [part for part in parts if part is not None]
    return opening + ", ".join(known) + closing if len(known) == len(parts) else None


class _Literal(config_parser.ParserDelegate):
    """Lets gin's parser read a text without looking up what it refers to."""

    def configurable_reference(self, scoped_configurable_name, evaluate):
        """Return a reference as it is written."""
        return ("@", scoped_configurable_name, evaluate)

    def macro(self, macro_name):
        """Return a macro as it is written."""
        return ("%", macro_name)


def statements(text: str) -> Iterator[config_parser.BindingStatement]:
    """Yield what a gin text binds; references stay as they are written."""
    for statement in config_parser.ConfigParser(text, _Literal()):
        if isinstance(statement, config_parser.BindingStatement):
            yield statement


def literals(text: str) -> dict[str, Any]:
    """Return what a gin text binds, by name; references stay as they are written."""
    return {
        f"{s.scope}/" * bool(s.scope) + f"{s.selector}.{s.arg_name}": s.value
        for s in statements(text)
    }
