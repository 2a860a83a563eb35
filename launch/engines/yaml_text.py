"""YAML that a person reads: scripts as they are, everything in the order given."""

from typing import Any

import yaml


def to_yaml(value: Any) -> str:
    """Return a value of JSON's types as YAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=2**20)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and names no value twice by a link."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
