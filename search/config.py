"""gin files and bindings in, the settings of a search out. Imports no framework."""

import importlib
import inspect
import re
import sys
import tokenize
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import gin

from common import project
from common.checks import nearest_names
from common.errors import UserError, first_line

_Settings = TypeVar("_Settings")
_MODULES = (
    "accuracy_sources",
    "axes",
    "block_search",
    "latency_sources",
    "objectives",
    "samplers",
    "scaling_search",
    "spaces",
    "strategies",
)
_REGISTRATION = "from __gin__ import dynamic_registration"
_CALL = "\n  In call to configurable"
# A binding on the command line is read as if these lines stood above it.
_IMPORTS = f"{_REGISTRATION}\n" + "".join(
    f"from search import {module}\n" for module in _MODULES
)


def read(
    settings: type[_Settings], gin_files: Sequence[str], bindings: Iterable[str]
) -> _Settings:
    """Read gin files, then bindings, which win, and make the settings that they say.

    Args:
      settings: the class that they fill in, as `scaling_search.Scaling`.
      gin_files: paths, as given or relative to the project's folder.
      bindings: lines such as "scaling_search.Scaling.seed = 2".

    Raises:
      UserError: a file is missing, a name or parameter does not exist, a value that has
        to be set is not, or makes no sense.
    """
    gin.clear_config()
    gin.add_config_file_search_path(str(project.ROOT))
    if not gin_files:
        raise UserError(
            "no config is given; --gin_file names one, as those of gin_configs/search"
        )
    for path in gin_files:
        if why := project.why_no_gin_file(path):
            raise UserError(why)
        _read(gin.parse_config_file, path, path)
    for binding in bindings:
        _read(gin.parse_config, _IMPORTS + binding, f"--gin_param={binding!r}")
    return _make(settings)


def parse(text: str) -> None:
    """Read a text alone, as far as gin checks it: that there is all that it names.

    Raises:
      UserError: there is not.
    """
    gin.clear_config()
    gin.add_config_file_search_path(str(project.ROOT))
    _read(gin.parse_config, text, "the config")


def read_text(settings: type[_Settings], text: str) -> _Settings:
    """Make the settings that a text says, as `text` has returned it; see `read`."""
    parse(text)
    return _make(settings)


def text() -> str:
    """Return what the files and bindings that were read last say, as one gin file."""
    return gin.config_str()


def message_of(error: BaseException) -> str:
    """Return an error's message without what gin adds: which function was called."""
    return str(error).partition(_CALL)[0]


def _make(settings: type[_Settings]) -> _Settings:
    """Return the settings, their required fields set."""
    try:
        configurable = gin.get_configurable(settings)
    except ValueError as error:  # no file binds a field of it
        name = f"{settings.__module__.rpartition('.')[2]}.{settings.__name__}"
        raise UserError(f"no --gin_file says anything of {name}") from error
    try:
        return configurable()
    except UserError as error:
        raise UserError(message_of(error)) from error
    except TypeError as error:
        if " missing " not in first_line(error):
            raise
        missing = [name for name in _required(settings) if f"'{name}'" in str(error)]
        names = ", ".join(f"{settings.__name__}.{name}" for name in missing)
        # Else it is of a function that the settings refer to.
        lacking = names or _lacking(error)
        raise UserError(f"the config does not say {lacking}") from error


def _required(settings: type) -> list[str]:
    parameters = inspect.signature(settings).parameters.values()
    return [p.name for p in parameters if p.default is inspect.Parameter.empty]


def _lacking(error: TypeError) -> str:
    """Return which parameters a function that was called lacks."""
    call = re.search(rf"{_CALL} '([^']*)'", str(error))
    names = re.findall(r"'(\w+)'", first_line(error))
    if call is None or not names:
        return first_line(error)
    return ", ".join(f"{call[1]}.{name}" for name in names)


def _read(parser: Callable[[str], Any], what: str, where: str) -> None:
    """Run one of gin's parsers; any complaint of it becomes one line."""
    try:
        parser(what)
    except Exception as error:
        # gin raises what Python's tokenizer, importer and getattr raise: too many
        # types to list, and whatever the type, the text is what cannot be read.
        what = _no_value(error) or _suggestion(str(error)) or _complaint(error)
        raise UserError(f"{where}: {what}{_place(error, where)}") from error


def _complaint(error: Exception) -> str:
    """Return gin's own first line; Python adds the place to that of a SyntaxError."""
    if isinstance(error, SyntaxError | tokenize.TokenError):
        return str(error.args[0]).partition("\n")[0]
    return first_line(error)


def _no_value(error: Exception) -> str:
    """Return what to write in the place of a value that gin cannot read, or ""."""
    found = re.search(r"Failed to parse token '(.*)'", str(error))
    if not isinstance(error, SyntaxError) or found is None:
        return ""
    return (
        f"{found[1]!r} is no value: a reference begins with @, as @spaces.blocks(); a "
        "text stands in quotes; a number is written out, as 0.5 or 1e9"
    )


def _suggestion(message: str) -> str:
    """Return a better text for what a misspelt name leads to; "" for all else.

    The messages are gin 0.5's; another version's would be shown as they are.
    """
    if found := re.search(
        r"selector [\w./]*?; <module '([\w.]+)'.* attribute (\w+)", message
    ):
        module, name = found.groups()
        return f"there is no {name!r} in {module}{_nearest(name, _names_in(module))}"
    if found := re.search(r"'(\w+)' was not provided by an import", message):
        near = (nearest_names(found[1], _MODULES) or _MODULES)[0]
        return (
            f"{found[1]!r} is not imported; a file has to import what it names, as by "
            f"the line 'from search import {near}'"
        )
    if found := re.search(
        r"'([\w.]+)' doesn't have a parameter named '(\w+)'", message
    ):
        return (
            f"{found[1]} has no parameter {found[2]!r}"
            f"{_nearest(found[2], _parameters_of(found[1]))}"
        )
    if found := re.search(r"No module named 'search\.(\w+)'", message):
        return f"there is no module {found[1]!r}{_nearest(found[1], _MODULES)}"
    if found := re.search(r"No configurable matching (?:reference )?'(.*)'", message):
        return f"{found[1]} is not known: the line {_REGISTRATION!r} is missing above"
    return ""


def _names_in(module: str) -> list[str]:
    return [name for name in vars(sys.modules.get(module, sys)) if name[0] != "_"]


def _parameters_of(name: str) -> list[str]:
    """Return the parameters of what gin names so, where it is one of ours."""
    module, _, attribute = name.rpartition(".")
    module = module.rpartition(".")[2]
    if module not in _MODULES:
        return []
    found = getattr(importlib.import_module(f"search.{module}"), attribute, None)
    return list(inspect.signature(found).parameters) if callable(found) else []


def _nearest(name: str, known: Iterable[str]) -> str:
    near = nearest_names(name, known)
    return f"; nearest: {', '.join(near)}" if near else ""


def _place(error: Exception, where: str) -> str:
    """Return in which line, and of which file if it is another; "" if not of a file."""
    if isinstance(error, SyntaxError):
        path, line = error.filename, error.lineno
        if path == "<tokenize>":  # Python's, of an indentation
            path = None if where.startswith("--") else where
    elif found := re.search(r'In file "(.*)", line (\d+)', str(error)):
        path, line = found.groups()
    else:  # of the command line, whose text has lines that nobody wrote
        return ""
    if path is None:
        return ""
    return f" (line {line})" if path == where else f" (line {line} of {path})"
