"""Functions and objects in processes of their own: a failure costs one result.

Frameworks do not get along in one process, take each other's threads, and can end it.
"""

import concurrent.futures
import dataclasses
import importlib
import multiprocessing
import os
import textwrap
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from common.errors import UserError

_KILLED = "its process was killed, perhaps for want of memory"


@dataclasses.dataclass(frozen=True)
class Failed:
    """Why there is no result, in one line.

    Attributes:
      reason: that line.
      killed: whether the process has died of something else than an exception.
    """

    reason: str
    killed: bool = False


def call(
    module: str, function: str, *arguments: Any, environment: Mapping[str, str]
) -> Any:
    """Return what a function returns in a process that ends with it.

    Args:
      module: the function's, by its full name; imported in the process alone.
      function: its name.
      *arguments: what it is given.
      environment: variables that are set before the module is imported.

    Returns:
      The function's result, or Failed if it raises or its process dies.
    """
    with _process(environment) as pool:
        try:
            return pool.submit(_answer, module, function, arguments).result()
        except BrokenProcessPool:
            return Failed(_KILLED, killed=True)


class IsolatedObject:
    """An object in a process of its own, which answers one request after another."""

    def __init__(
        self,
        module: str,
        name: str,
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
    ):
        """Begin to make it.

        Args:
          module: by its full name; imported in the process alone.
          name: of the class or function in it that makes the object.
          *arguments: what that is given.
          environment: variables that are set before the module is imported.
        """
        self._name = name
        self._pool = _process(environment or {})
        self._made = self._pool.submit(_make, module, name, arguments)

    def ask(self, method: str, *arguments: Any) -> Any:
        """Return what a method returns, or raise what it raises.

        Raises:
          UserError: the process has died.
        """
        try:
            self._made.result()
            return self._pool.submit(_ask, method, arguments).result()
        except BrokenProcessPool as error:
            raise UserError(f"{self._name}: {_KILLED}") from error

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


def _process(
    environment: Mapping[str, str],
) -> concurrent.futures.ProcessPoolExecutor:
    """Return what runs one thing after another in one new process."""
    return concurrent.futures.ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_set_environment,
        initargs=(dict(environment),),
    )


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.update(variables)


def _answer(module: str, function: str, arguments: tuple[Any, ...]) -> Any:
    try:
        return getattr(importlib.import_module(module), function)(*arguments)
    except Exception as error:
        # Frameworks and their compilers raise too many types to list, and not all of
        # them can be sent to another process.
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
        return Failed(textwrap.shorten(text, 300))


_object: Any = None  # in the process of an IsolatedObject


def _make(module: str, name: str, arguments: tuple[Any, ...]) -> None:
    global _object
    _object = getattr(importlib.import_module(module), name)(*arguments)


def _ask(method: str, arguments: tuple[Any, ...]) -> Any:
    return getattr(_object, method)(*arguments)
