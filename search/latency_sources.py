"""Sources of latencies: callables of a network, which gin names.

    search.Latency = @latency_sources.whole()
    latency_sources.whole.topology = "v5e"

| source | what it says | an answer takes |
|---|---|---|
| tile_model | arithmetic, fitted to whole compiled networks | microseconds |
| fitted | the same, fitted to a table of your own, of any device | microseconds |
| sum_of_parts | its segments, each compiled by itself, added | 2 to 5 s a new one |
| whole | the network, compiled for one device of a TPU | half a minute to two |
| device | the network, timed by JAX on the device that it finds | a minute |
| table | what a file says of the network, or of its blocks | microseconds |
| function | what a callable of your own says | |

Each is called with one Variant, or by `many` with several, which compile side by side;
it has a `name`, an `error` where that was measured, `conditions`, and `close`, which
ends its processes. What it cannot answer is an Estimate without milliseconds that says
why. Imports no framework, and none is imported in this process later on.
"""

import importlib
from pathlib import Path

from common import checks
from common.errors import UserError, first_line
from performance.segments import LARGEST, InferenceOptions
from search.latencies import latency_table
from search.latencies.latency_log import Recorded
from search.latencies.latency_table import SUM, WHOLE, Conditions
from search.latencies.source_kinds import (
    DATA,
    Compiled,
    Function,
    Measured,
    Recordable,
    Table,
)
from search.latencies.tile_model import TileModel
from search.results import FUNCTION_NAME, Latency

_RULES = {  # of all that lower or run a network
    "topology": checks.TEXT,
    "batch": checks.whole(1, LARGEST),
    "dtype": checks.TEXT,
}
_WORKERS = checks.whole(1, 1024)


@checks.rules(
    **_RULES,
    fit=checks.Rule(
        lambda fit: fit == "" or checks.PATH.holds(fit), "a path or ''", of_path=True
    ),
)
def tile_model(
    topology: str, *, fit: str = "", batch: int = 64, dtype: str = "bfloat16"
) -> TileModel:
    """Return the tile model of a generation, see `search.latencies.tile_model`.

    Args:
      topology: "v3" and so on.
      fit: a table of compiled networks; "" is the project's own.
      batch: images at once, as the table has them.
      dtype: of the arithmetic, as the table has it.

    Raises:
      UserError: there is no such table, it is of other conditions, or has too few
        networks.
    """
    conditions = _conditions(topology, batch, dtype)
    path = Path(fit) if fit else DATA / f"compiled_{conditions.hardware}.json"
    if not fit and not path.exists():
        known = sorted(one.stem.rpartition("_")[2] for one in DATA.glob("compiled_*"))
        raise UserError(
            f"the project has no compiled networks for {conditions.hardware}, only for "
            f"{', '.join(known)}: make a table by python -m search.table, and name it "
            "by latency_sources.tile_model.fit"
        )
    found = latency_table.read(path)
    conditions.require_equal(found.conditions, path)
    return TileModel(found)


@checks.rules(path=checks.PATH)
def fitted(path: str) -> TileModel:
    """Return the same model for any device: fitted to a table that was made on it.

    A GPU computes in tiles, too, of other sizes; what the model is worth there its
    leave-one-out error says.

    Args:
      path: of a table with ten networks or more, see `search.table`.

    Raises:
      UserError: it is no table, or has too few networks.
    """
    return TileModel(latency_table.read(path))


@checks.rules(**_RULES, workers=_WORKERS)
def sum_of_parts(
    topology: str, *, batch: int = 64, dtype: str = "bfloat16", workers: int = 2
) -> Compiled:
    """Return the sums of networks' segments, each compiled by itself, equal ones once.

    Args:
      topology: whose device.
      batch: images at once.
      dtype: of the arithmetic, "bfloat16" or "float32".
      workers: compilations at once.

    Raises:
      UserError: there is no such topology or dtype.
    """
    return Compiled(SUM, "sums", _conditions(topology, batch, dtype), workers)


@checks.rules(**_RULES, workers=_WORKERS)
def whole(
    topology: str, *, batch: int = 64, dtype: str = "bfloat16", workers: int = 2
) -> Compiled:
    """Return whole networks by the TPU compiler; arguments as of `sum_of_parts`."""
    return Compiled(WHOLE, "whole", _conditions(topology, batch, dtype), workers)


@checks.rules(
    batch=_RULES["batch"],
    dtype=checks.one_of("bfloat16", "float16", "float32"),
    repeats=checks.whole(1, 10**6),
)
def device(*, batch: int = 64, dtype: str = "bfloat16", repeats: int = 30) -> Measured:
    """Return networks timed on the device that JAX finds.

    Args:
      batch: images a call.
      dtype: of weights and arithmetic: "bfloat16", "float16" or "float32".
      repeats: timed calls of each network.

    Raises:
      UserError: JAX is not installed, finds no device, or there is no such dtype.
    """
    return Measured(batch, dtype, repeats)


@checks.rules(path=checks.PATH)
def table(path: str) -> Table:
    """Return what a file of `search.table` says, see `search.latencies.latency_table`.

    Raises:
      UserError: it is none.
    """
    return Table(path)


@checks.rules(name=FUNCTION_NAME)
def function(name: str) -> Function:
    """Return a callable of a Variant that returns milliseconds or an Estimate.

    Args:
      name: "module:function"; the module is imported.

    Raises:
      UserError: there is none of this name.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{name}: {first_line(error)}") from error
    if not callable(found):
        raise UserError(f"{name} is {found!r}, and cannot be called")
    return Function(name, found)


def _conditions(topology: str, batch: int, dtype: str) -> Conditions:
    """Return the conditions of one device of a topology; it may be a slice."""
    from tpu_compiler import Topology

    InferenceOptions(batch=batch, dtype=dtype)
    return Conditions(Topology.parse(topology).name, batch, dtype)


def in_folder(source: Latency, folder: str, *, asks_again: bool = False) -> Latency:
    """Return a source that keeps its answers in a search's folder, if that is worth it.

    What arithmetic says, or a table, costs nothing to ask again. Arguments are those of
    `recorded`.
    """
    if not hasattr(source, "noted_conditions"):
        return source
    return recorded(source, folder, asks_again=asks_again)  # type: ignore


def recorded(source: Recordable, folder: str, *, asks_again: bool = False) -> Recorded:
    """Return a source whose answers are kept in a search's folder, see `latency_log`.

    Args:
      source: any but the tile model and a table, which cost nothing.
      folder: of the search; it exists.
      asks_again: whether it is asked again for what it had no time of.

    Raises:
      UserError: its file cannot be read.
    """
    return Recorded(source, folder, asks_again=asks_again)
