"""gin files and bindings in, the settings of a search out. Imports no framework."""

import contextlib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import gin

from common import gin_imports, gin_messages, project
from common.checks import shown
from common.errors import UserError, first_line

_Settings = TypeVar("_Settings")
_MODULES = (
    "accuracy_sources",
    "axes",
    "block_search",
    "latency_sources",
    "nas_search",
    "objectives",
    "samplers",
    "scaling_search",
    "spaces",
    "strategies",
)
_CALL = "\n  In call to configurable"


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
    gin.config._FILE_READERS[:] = project.GIN_READERS
    if not gin_files:
        raise UserError(
            "no config is given; --gin_file names one, as those of gin_configs/search"
        )
    imported = []
    for path in gin_files:
        if why := project.why_no_gin_file(path):
            raise UserError(why)
        imported += gin_imports.modules(_read(gin.parse_config_file, path, path))
    above = gin_imports.lines([f"search.{name}" for name in _MODULES], imported)
    for binding in bindings:
        where = f"--gin_param={shown(binding)}"
        _read(gin.parse_config, above + binding, where)
    return _make(settings)


def parse(text: str) -> None:
    """Read a text alone, as far as gin checks it: that there is all that it names.

    Raises:
      UserError: there is not.
    """
    gin.clear_config()
    gin.config._FILE_READERS[:] = project.GIN_READERS
    _read(gin.parse_config, text, "the config")


def read_text(settings: type[_Settings], text: str) -> _Settings:
    """Make the settings that a text says, as `text` has returned it; see `read`."""
    parse(text)
    return _make(settings)


def text() -> str:
    """Return what the files and bindings that were read last say, as one gin file."""
    return gin.config_str()


def references(settings: type, names: Iterable[str]) -> dict[str, str]:
    """Return what the files that were read last bind to fields, as gin writes it.

    Args:
      settings: the class of the fields.
      names: of the fields; one that nothing is bound to is left out.

    Returns:
      By name, such as "@spaces.blocks()", to be bound to a field of another class.
    """
    owner = f"{settings.__module__.rpartition('.')[2]}.{settings.__name__}"
    found = {}
    for name in names:
        with contextlib.suppress(ValueError):  # nothing is bound to it
            found[name] = repr(gin.query_parameter(f"{owner}.{name}"))
    return found


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
    call = re.search(rf"{_CALL} '([^']*)'(?:.* in scope '([^']*)')?", str(error))
    names = re.findall(r"'(\w+)'", first_line(error))
    if call is None or not names:
        return first_line(error)
    if call[1] == "macro":
        return f"what %{call[2]} is: set it by a line {call[2]} = ..."
    return ", ".join(f"{call[1]}.{name}" for name in names)


def _read(parser: Callable[[str], Any], what: str, where: str) -> Any:
    """Run one of gin's parsers; any complaint of it becomes one line."""
    try:
        return parser(what)
    except Exception as error:
        # gin raises what Python's tokenizer, importer and getattr raise: too many
        # types to list, and whatever the type, the text is what cannot be read.
        modules = [f"search.{module}" for module in _MODULES]
        raise UserError(gin_messages.explain(error, where, modules)) from error
