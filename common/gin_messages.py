"""What gin complains of, as a person reads it: one line that says how to mend it.

gin itself is not imported: these are the words of gin 0.5; those of another version
would be shown as they are.
"""

import importlib
import inspect
import re
import sys
import tokenize
from collections.abc import Iterable, Sequence

from common.checks import nearest_names, shown
from common.errors import first_line

REGISTRATION = "from __gin__ import dynamic_registration"


def explain(error: Exception, where: str, modules: Sequence[str]) -> str:
    """Return what is wrong, and in which line.

    Args:
      error: what one of gin's parsers has raised.
      where: the file that was read, or the flag that held the text.
      modules: by their full names, those that a config of this kind may speak of.
    """
    what = _unreadable(error) or _suggestion(str(error), modules) or _complaint(error)
    return f"{where}: {what}{_place(error, where)}"


def _complaint(error: Exception) -> str:
    """Return gin's own first line; Python adds the place to that of a SyntaxError."""
    if isinstance(error, SyntaxError | tokenize.TokenError):
        return str(error.args[0]).partition("\n")[0]
    return first_line(error)


_FORM = "a setting is written as module.function.parameter = value"
_VALUES = (
    "a reference begins with @, as in @module.function; a text stands in quotes; a "
    "number is written out, as 0.5 or 1e9"
)
# What is written in other languages, and what gin's is.
_WORDS = {"true": "True", "false": "False", **dict.fromkeys(("none", "null"), "None")}
_INFINITE = {"inf", "infinity", "nan"}


def _unreadable(error: Exception) -> str:
    """Return what is wrong with a text that gin cannot read; "" for all else."""
    if isinstance(error, RecursionError):
        return "it has no end: it is nested too deep, or a file includes itself"
    if isinstance(error, UnicodeDecodeError):
        return "it is no text in UTF-8"
    if isinstance(error, tokenize.TokenError):
        return "a bracket or a text is opened and not closed"
    if not isinstance(error, SyntaxError):
        return ""
    if found := re.search(r"Failed to parse token '(.*)'", str(error), re.DOTALL):
        return _no_value(found[1])
    for words, explain_rest in _COMPLAINTS.items():
        if str(error.msg).strip() == words:
            return explain_rest(*_at(error))
    return _FORM if str(error.msg).startswith(_NO_STATEMENT) else ""


def _at(error: SyntaxError) -> tuple[str, str]:
    """Return what stands before and behind the place of an error in its line."""
    line, place = error.text or "", error.offset or 0
    return line[:place].strip(), line[place:].strip()


def _no_value(token: str) -> str:
    """Return what to write in place of a word, or a number, that gin cannot read."""
    word = token.lstrip("-")
    if word.lower() in _WORDS:
        return f"{shown(token)} is no value: write {_WORDS[word.lower()]}"
    if word.lower() in _INFINITE:
        return (
            f"{shown(token)} is no value: a number is finite and written out, as 1e6; "
            "a setting that may be without limit is None then"
        )
    if word.isdecimal() and len(word) > sys.get_int_max_str_digits() > 0:
        return "a number has too many digits"
    return f"{shown(token)} is no value: {_VALUES}"


def _more_than_a_value(before: str, behind: str) -> str:
    value = before.partition("=")[2]
    if "'" in value or '"' in value:
        return (
            f"the text ends before {shown(behind)}: a quote within it ends it; a text "
            "with an apostrophe stands in double quotes, and the other way round"
        )
    return f"{shown(behind)} stands behind a value: gin does not calculate; {_VALUES}"


def _not_a_value(before: str, behind: str) -> str:
    del before
    if not behind or behind.startswith("#"):
        return "there is no value behind ="
    if behind[0] in "'\"":
        return f"the quote of {shown(behind)} is not closed"
    return f"{shown(behind)} is no value: {_VALUES}"


# gin's own words where a line is no statement at all.
_NO_STATEMENT = (
    "Couldn't parse statement",
    "Unexpected token",
    "Malformatted",
    "Expected newline.  Got",
)
# By gin's own words: what to say of what stands before and behind the place.
_COMPLAINTS = {
    "Expected newline.": _more_than_a_value,
    "Unable to parse value.": _not_a_value,
}


def _suggestion(message: str, modules: Sequence[str]) -> str:
    """Return a better text for what a misspelt name leads to; "" for all else."""
    short = {module.rpartition(".")[2]: module for module in modules}
    if found := re.search(
        r"selector [\w./]*?; <module '([\w.]+)'.* attribute (\w+)", message
    ):
        module, name = found.groups()
        known = [n for n in vars(sys.modules.get(module, sys)) if n[0] != "_"]
        return f"there is no {name!r} in {module}{_nearest(name, known)}"
    if found := re.search(r"resolve selector ([\w./]+); <", message):
        return f"there is no {found[1]!r}"
    if found := re.search(r"'(\w+)' was not provided by an import", message):
        return _not_imported(found[1], short)
    if found := re.search(
        r"'([\w.]+)' doesn't have a parameter named '(\w+)'", message
    ):
        known = _parameters_of(found[1], short)
        return f"{found[1]} has no parameter {found[2]!r}{_nearest(found[2], known)}"
    if found := re.search(r"No module named '(\w+)\.(\w+)'", message):
        known = [n for n, full in short.items() if full == f"{found[1]}.{n}"]
        return f"there is no module {found[2]!r}{_nearest(found[2], known)}"
    if found := re.search(r"No module named '(.*)'", message):
        return (
            f"there is no module {found[1]!r} to import: it has to lie in the folder "
            "where the command runs, or in one of PYTHONPATH, or be installed"
        )
    if "not enough values to unpack" in message:
        return f"it names a module and no function: {_FORM}"
    if found := re.search(r"No configurable matching (?:reference )?'(.*)'", message):
        return f"{found[1]} is not known: the line {REGISTRATION!r} is missing above"
    return ""


def _not_imported(name: str, short: dict[str, str]) -> str:
    """Return how a name that no import has brought is written."""
    if any(full.startswith(f"{name}.") for full in short.values()):
        return f"a file names a module without its package {name!r}: {_FORM}"
    for alias, full in short.items():
        if hasattr(sys.modules.get(full), name):
            return f"{name!r} stands without its module: write {alias}.{name}"
    functions = {
        function: f"{alias}.{function}"
        for alias, full in short.items()
        for function, value in vars(sys.modules.get(full, sys)).items()
        if getattr(value, "__module__", "") == full and callable(value)
    }
    if not nearest_names(name, short) and (like := nearest_names(name, functions)):
        return f"there is no {name!r}: write {functions[like[0]]}"
    near = (nearest_names(name, short) or [""])[0]
    line = f"from {short[near].rpartition('.')[0]} import {near}" if near else ""
    hint = _nearest(name, short) if near and near != name else ""
    return (
        f"{name!r} is not a module of this config{hint}: a file has to import what it "
        f"names, as by the line {line or f'import {name}'!r}"
    )


def _parameters_of(name: str, short: dict[str, str]) -> list[str]:
    """Return the parameters of what gin names so, where it is one of ours."""
    module, _, attribute = name.rpartition(".")
    full = short.get(module.rpartition(".")[2])
    if full is None:
        return []
    found = getattr(importlib.import_module(full), attribute, None)
    return list(inspect.signature(found).parameters) if callable(found) else []


def _nearest(name: str, names: Iterable[str]) -> str:
    known = list(names)
    if near := nearest_names(name, known):
        return f"; nearest: {', '.join(near)}"
    return f"; it has: {', '.join(known)}" if known else ""


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
