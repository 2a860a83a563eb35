"""Networks by name: of the catalogue, alone or scaled."""

import dataclasses
from typing import Any

from common.errors import UserError
from models.variants import Variant, get_variant

_SCALED = "name:width:depth:resolution, as in efficientnet-x-b0:1.6:1.2:256"


def scaled_network(text: str) -> Variant:
    """Return the network that a name of the catalogue, alone or scaled, stands for.

    Raises:
      UserError: there is none, or a number makes no sense.
    """
    name, *axes = text.split(":")
    base = get_variant(name)
    if not axes:
        return base
    try:
        width, depth, resolution = axes
        scaled: dict[str, Any] = {
            "width_coefficient": float(width),
            "depth_coefficient": float(depth),
            "resolution": int(resolution),
        }
    except ValueError as error:
        raise UserError(f"{text} is not of the form {_SCALED}") from error
    return dataclasses.replace(base, name=text, se_coefficient=1, **scaled)
