"""What the sources of latency say of some networks, kept in the search's folder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from common.errors import UserError
from models.variants import Variant
from search import latency_sources
from search.results import Estimate
from search.stages.folder import NasFolder


def ask(
    sources: Mapping[str, Any], networks: Mapping[str, Variant], folder: NasFolder
) -> dict[str, Any]:
    """Return the table of all sources and networks.

    Args:
      sources: by their part in the search; None is not asked.
      networks: by name.
      folder: of the search.
    """
    asked = {role: source for role, source in sources.items() if source is not None}
    rows = [
        {"network": name, "role": role, **_estimate(source, variant, folder)}
        for role, source in asked.items()
        for name, variant in networks.items()
    ]
    return {"rows": rows, "asked": [*asked]}


def _estimate(source: Any, variant: Variant, folder: NasFolder) -> dict[str, Any]:
    """Return a source's answer; one that cannot answer says why.

    Answers are kept: a later command asks for those alone that were none.
    """
    try:
        kept = latency_sources.in_folder(source, str(folder.path), asks_again=True)
        try:
            estimate = kept(variant)
        finally:
            if hasattr(kept, "close"):
                kept.close()  # type: ignore
    except UserError as error:  # as without a compiler
        estimate = Estimate(None, getattr(source, "name", ""), reason=str(error))
    return dataclasses.asdict(estimate)
