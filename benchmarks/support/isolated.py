"""Functions that run in processes of their own, so that a failure costs one result."""

import concurrent.futures
import dataclasses
import importlib
import multiprocessing
import os
import textwrap
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from typing import Any


@dataclasses.dataclass(frozen=True)
class Failed:
    """Why there is no result, in one line."""

    reason: str


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
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(
                _answer, module, function, arguments, dict(environment)
            ).result()
        except BrokenProcessPool:
            return Failed("its process was killed, perhaps for want of memory")


def _answer(
    module: str, function: str, arguments: tuple[Any, ...], environment: dict[str, str]
) -> Any:
    os.environ.update(environment)
    try:
        return getattr(importlib.import_module(module), function)(*arguments)
    except Exception as error:
        # Frameworks and their compilers raise too many types to list, and not all of
        # them can be sent to another process.
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
        return Failed(textwrap.shorten(text, 300))
