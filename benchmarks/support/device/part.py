"""A row of benchmarks.gpu: JSON on standard input says which, a line of JSON how long.

Imports no framework up here: each takes memory of the device for itself.
"""

import dataclasses
import json
import sys
from typing import Any


def seconds(part: dict[str, Any]) -> list[float]:
    """Return the seconds of each call or step.

    Args:
      part: fields of `benchmarks.gpu.Part`.

    Raises:
      RuntimeError: the library sees no such device.
    """
    if part["what"] == "train step":
        from benchmarks.support.device import steps

        names = [field.name for field in dataclasses.fields(steps.StepCase)]
        told = {**part, "steps": part["repeats"]}
        case = steps.StepCase(**{name: told[name] for name in names})
        return steps.seconds(case)
    from benchmarks.support.device.case import Case
    from models.variants import get_variant

    variant = dataclasses.replace(get_variant(part["name"]), resolution=part["size"])
    names = ("form", "batch", "dtype", "repeats")
    timed = Case(variant=variant, **{name: part[name] for name in names})
    if not timed.is_ours:
        from benchmarks.support.device import timm_calls

        return timm_calls.seconds(timed, part["platform"])
    from performance import device_jax

    found = device_jax.device().platform
    if found != part["platform"]:
        raise RuntimeError(f"JAX finds a {found}, no {part['platform']}")
    return device_jax.seconds(timed)


if __name__ == "__main__":
    print(json.dumps(seconds(json.loads(sys.stdin.read()))))
