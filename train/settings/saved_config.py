"""What the config in a run's folder may say, and how it differs from another.

gin does what a text says: it imports any module, includes any file, calls any function.
That is right for a file that a person names. The folder of a run may come from somebody
else, so its config is first read by gin's own parser alone, which looks nothing up, and
gin gets the very same text only where it sets this project's functions, and no more.
"""

import contextlib
import re
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any

from gin import config_parser, utils

from common.errors import Restart, UserError, first_line
from train.settings.functions import FUNCTIONS, MAKES_VALUES
from train.settings.gin_text import literals
from train.settings.resolver import UNSET, Setting

_MACRO = "gin.macro"  # %name is short for @name/gin.macro()
# What "@name()" may call while the config is resolved: it makes one value of others.
_CALLED = {
    _MACRO,
    *(f"{MAKES_VALUES}.{name}" for name in FUNCTIONS[MAKES_VALUES]),
}
_DYNAMIC = "from __gin__ import dynamic_registration"
_LONGEST = 80  # characters of the file that a message shows


def check(text: str, path: str) -> None:
    """Refuse a text that says more than settings of this project's own functions.

    Args:
      text: the very string that gin is to get.
      path: where it was read.

    Raises:
      UserError: it says more, or cannot be read; what, and in which line.
    """
    checker = _Checker()
    try:
        with readable(path):
            for statement in config_parser.ConfigParser(text, checker):
                with utils.try_with_location(statement.location):
                    checker.check(statement)
    except _NotAllowedError as error:
        raise UserError(
            f"{path}{_line(error)}: {error.what} is not allowed in a saved config, "
            "which may set this project's own functions and nothing else; if you trust "
            f"the folder, --gin_file={path} runs whatever the file says"
        ) from error


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn what gin's parser raises at a text into one line.

    Raises:
      UserError: the text is no config.
    """
    try:
        yield
    except (UserError, Restart, _NotAllowedError):
        raise
    except Exception as error:
        # The tokenizer's, ast's and gin's own: too many types to list. Whatever the
        # type, the text is what cannot be read.
        raise UserError(
            f"{path}{_unreadable(error)}; it is no config as a run saves it: put the "
            "run's own back, or take another --model_dir"
        ) from error


def differences(
    saved: str, text: str, settings: Mapping[str, Setting]
) -> dict[str, str]:
    """Return "old -> new" by name for the settings that a saved text has otherwise.

    A setting that the saved text lacks counts as its default: it is younger than that.

    Args:
      saved: `Resolver.text` of a run, or what gin wrote of one that is older.
      text: of now.
      settings: of now. What the saved text has beyond them decides on nothing here.
    """
    old, new = literals(saved), literals(text)
    found = {}
    for name, setting in settings.items():
        before = old.get(name, setting.default)
        now = new.get(name, setting.value)
        if not _same(before, now):
            found[name] = f"{_shown(before)} -> {_shown(now)}"
    return found


def _same(one: Any, other: Any) -> bool:
    """Whether two values make the same run: 24 and 24.0 do, 1 and True do not."""
    if one is other:  # a default that equals nothing, or has no one answer: an array
        return True
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    if type(one) is not type(other) and (
        not numbers or bool in (type(one), type(other))
    ):
        return False
    return bool(one == other)


def _shown(value: Any) -> str:
    if value is UNSET:
        return "(not set)"
    if isinstance(value, tuple) and value[:1] == ("@",) and len(value) == 3:
        return _printable(f"@{value[1]}{'()' if value[2] else ''}")
    return _printable(repr(value))


class _NotAllowedError(Exception):
    """What stands where it may not; the parser adds the line to its text."""

    def __init__(self, what: str):
        super().__init__()
        self.what = _printable(what)


class _Checker(config_parser.ParserDelegate):
    """Follows a text as gin will; each name is looked up in a table instead.

    References are checked when the parser comes to them. The value that they end up in
    may have lost them: of two equal keys of a dict the later one wins.
    """

    def __init__(self):
        self._modules: dict[str, str] = {}  # by alias, once they are imported
        self._has_begun = False

    def check(self, statement: Any) -> None:
        """Refuse a statement; gin has to see all those before it in the same order."""
        if isinstance(statement, config_parser.ImportStatement):
            self._import(statement)
        elif not self._has_begun:
            # Without it gin takes the parts of a name for those of any function that
            # any module has registered.
            raise _NotAllowedError(f"a statement in front of `{_DYNAMIC}`")
        elif isinstance(statement, config_parser.IncludeStatement):
            raise _NotAllowedError("`include`")
        elif not isinstance(
            statement, config_parser.BindingStatement | config_parser.BlockDeclaration
        ):
            raise _NotAllowedError(type(statement).__name__)
        elif getattr(statement, "arg_name", None) != "":  # else it sets a macro
            self._full_name(statement.selector, shown=statement.selector)

    def configurable_reference(self, scoped_configurable_name, evaluate):
        """Refuse a reference to what a saved config may not name, or not call."""
        shown = f"@{scoped_configurable_name}{'()' * evaluate}"
        full_name = self._full_name(scoped_configurable_name.rpartition("/")[2], shown)
        if evaluate and full_name not in _CALLED:
            raise _NotAllowedError(shown)
        return shown

    def macro(self, macro_name):
        """Return a macro as it is written; what it stands for is a statement, too.

        Or one of gin's constants: REQUIRED, the only one that is made here.
        """
        return f"%{macro_name}"

    def _import(self, statement: config_parser.ImportStatement) -> None:
        text, alias = statement.format(), statement.bound_name()
        if text == _DYNAMIC and not self._has_begun:
            self._has_begun = True
            return
        known = statement.is_from and statement.module in FUNCTIONS
        again = self._modules.get(alias, statement.module) != statement.module
        if not self._has_begun or not known or again:
            raise _NotAllowedError(f"`{text}`")
        self._modules[alias] = statement.module

    def _full_name(self, name: str, shown: str) -> str:
        """Return module.function of what is alias.function in the file."""
        alias, _, function = name.rpartition(".")
        module = self._modules.get(alias, "")
        if name != _MACRO and function not in FUNCTIONS.get(module, ()):
            raise _NotAllowedError(shown)
        return name if name == _MACRO else f"{module}.{function}"


def _line(error: Exception) -> str:
    """Return the line that gin's parser has added to the text of an error."""
    found = re.match(r"\n  In bindings string line (\d+)\n", str(error))
    return f", line {found[1]}" if found else ""


def _unreadable(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        # Of a value the last line tells the word, the first one Python's object of it.
        what, line = str(error.msg).splitlines()[-1].strip(), error.lineno
    elif isinstance(error, tokenize.TokenError):
        what, (line, _) = error.args
    else:
        deep = isinstance(error, RecursionError)
        what, line = "it is nested too deep" if deep else first_line(error), None
    return f", line {line}: {_printable(what)}" if line else f": {_printable(what)}"


def _printable(text: str) -> str:
    """Return what a terminal shows as it stands, and no more than fits into a line."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
