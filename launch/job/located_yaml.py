"""YAML whose every value knows its line, for messages."""

import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import yaml

from common.errors import UserError, one_line

# A pattern's $ would not see a line break at the end of a name. Half a character, as an
# escape may write it, can be sent to nobody.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# YAML 1.1 also takes 1:30 for 90, 010 for 8 and 0x10 for 16.
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)?(\.[0-9_]*([eE][-+][0-9]+)?)?")
_MOST = 10_000  # values, of which aliases of aliases make billions
_COLLECTIONS = {"tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}


class Located:
    """What a YAML file says, and where.

    Attributes:
      value: of JSON's types, as of `yaml.safe_load`, dates left as they are written.
    """

    def __init__(self, path: str, text: str):
        """Read a text.

        Args:
          path: of the file, for messages.
          text: its content.

        Raises:
          UserError: it is no YAML, or says the same key twice.
        """
        self._path = path
        self._lines: dict[tuple[Any, ...], int] = {}
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            self.value = None if node is None else self._read(loader, node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise UserError(f"{path}{line}: no YAML: {error.problem}") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise UserError(f"{path}: no YAML: {one_line(error)}") from None
        finally:
            loader.dispose()

    def where(self, place: Sequence[Any]) -> str:
        """Return "path:line" of a value, or of the nearest that there is around it.

        Args:
          place: its keys and indices, from the top.
        """
        keys = tuple(place)
        while keys and keys not in self._lines:
            keys = keys[:-1]
        return f"{self._path}:{self._lines.get(keys, 1)}"

    def _read(self, loader: "_Loader", node: yaml.Node, place: tuple[Any, ...]) -> Any:
        self._lines.setdefault(place, node.start_mark.line + 1)
        if len(self._lines) > _MOST:
            raise self._mistake(node, f"there are more than {_MOST:,} values")
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
            raise self._mistake(node, f"{node.tag} is of no use here")
        if isinstance(node, yaml.SequenceNode):
            return [
                self._read(loader, each, (*place, number))
                for number, each in enumerate(node.value)
            ]
        if not isinstance(node, yaml.MappingNode):
            return self._scalar(loader, node)
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(loader, key_node)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise self._mistake(
                    key_node, f"{key!r:.60} is a key, and no text: put it in quotes"
                )
            if key in found:
                raise self._mistake(key_node, f"{key!r:.60} stands there twice")
            self._lines[(*place, key)] = line
            found[key] = self._read(loader, value_node, (*place, key))
        return found

    def _scalar(self, loader: "_Loader", node: yaml.Node) -> Any:
        try:
            value = loader.construct_object(node, deep=True)
        except (LookupError, AttributeError, ValueError):
            # Of !!bool maybe, !!timestamp now, and of numbers with thousands of digits.
            what = f"{node.value!r:.60} is no {node.tag.rpartition(':')[2]}"
            raise self._mistake(node, what) from None
        if isinstance(value, str) and _CONTROLS.search(value):
            raise self._mistake(node, f"{value!r:.60} is not one line of text")
        if not isinstance(value, int | float) or isinstance(value, bool):
            return value
        if isinstance(value, float) and not math.isfinite(value):
            raise self._mistake(node, f"{value} is no number of JSON")
        if not _DECIMAL.fullmatch(node.value):
            raise self._mistake(
                node,
                f"YAML takes {node.value:.60} for {value}: write a decimal number, or "
                "put a text in quotes",
            )
        return int(value) if value == int(value) else value

    def _mistake(self, node: yaml.Node, what: str) -> UserError:
        return UserError(f"{self._path}:{node.start_mark.line + 1}: {what}")


class _Loader(yaml.SafeLoader):
    """The safe one, to which a date is a text: JSON has none."""

    yaml_implicit_resolvers: ClassVar = {
        first: [one for one in those if one[0] != "tag:yaml.org,2002:timestamp"]
        for first, those in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
