"""Tables and a picture of what latencies say before any accuracy is known."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tpu import forms as tpu_forms_script
from docgen.drawn import Picture
from docgen.markdown import table, three_digits

Report = Mapping[str, Any]

PICTURE = Picture("tpu.stage_choices", "rows")


def stage_choices(report: Report, note: str) -> str:
    """Return the milliseconds of each stage by kind of block, a table a generation.

    Args:
      report: of benchmarks.tpu.stage_choices.
      note: the line below.
    """
    settings = report["settings"]
    parts = [
        f"Estimated ms of each stage of {report['base']} with other blocks, batch "
        f"{settings['batch']}, {settings['dtype']}: the sum of its blocks, each "
        "compiled by itself. Of fused and depthwise the faster is bold; a star marks "
        "what the network has:"
    ]
    for topology in settings["topologies"]:
        mine = [row for row in report["rows"] if row["topology"] == topology]
        parts.append(_stages(topology, mine))
    return "\n\n".join([*parts, note])


def _stages(topology: str, rows: Sequence[Report]) -> str:
    kernels = sorted({row["kernel_size"] for row in rows})
    heads = [f"{kernel}x{kernel}" for kernel in kernels]
    lines, other = [], ""
    for stage in dict.fromkeys(row["stage"] for row in rows):
        mine = [row for row in rows if row["stage"] == stage]
        widest = max(row["expand_ratio"] for row in mine)
        full = [row for row in mine if row["expand_ratio"] == widest]
        small = [row for row in mine if row["expand_ratio"] < widest]
        cells = [
            cell
            for kernel in kernels
            for cell in _pair([row for row in full if row["kernel_size"] == kernel])
        ]
        if small:
            other = f"expansion {small[0]['expand_ratio']}, own kernel"
        lines.append((f"{stage}", *cells, *_pair(small)))
    head = [f"{topology}, stage"]
    head += [f"{kind} {name}" for name in heads for kind in ("fused", "depthwise")]
    head += [f"{other}: fused", "depthwise"]
    return table(head, lines, right=" " + "r" * (len(head) - 1))


def _pair(rows: Sequence[Report]) -> Iterator[str]:
    """Yield the cells of fused and depthwise blocks that are otherwise alike."""
    known = [row["ms"] for row in rows if row["ms"] is not None]
    for fused in (True, False):
        (row,) = [one for one in rows if one["fused"] == fused] or [None]
        if row is None or row["ms"] is None:
            yield "-"
            continue
        text = three_digits(row["ms"]) + r"\*" * row["of_x_b0"]
        yield f"**{text}**" if row["ms"] == min(known) and len(known) > 1 else text


def tile_model(report: Report, note: str) -> str:
    """Return how far the tile model is off, a row a generation.

    Args:
      report: of benchmarks.tpu.tile_model.
      note: the line below.
    """
    rows = [
        (
            one["topology"],
            f"{len(one['networks'])}",
            ", ".join(name.replace("_", " ") for name in one["features"]),
            _percent(one["rms"]),
            f"{100 * one['worst']:+.1f}",
            _percent(one["choice_left_out"]),
            _percent(one["another_base"]),
            _percent(one["error_of_sums"]),
        )
        for one in report["generations"]
    ]
    head = (
        *("one device of", "networks", "features", "left out: rms %", "worst %"),
        *("choice left out, too %", "another base %", "sums of parts: rms %"),
    )
    settings = report["settings"]
    return "\n\n".join(
        [
            "How far the tile model is off whole compiled networks, each left out of "
            f"the fit, batch {settings['batch']}, {settings['dtype']}; with the choice "
            "of its four features left out, too; and networks of a base of which the "
            "fit has none, for which it therefore says nothing:",
            table(head, rows, right=" r rrrrr"),
            note,
        ]
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def draw(report: Report, folder: Path) -> None:
    """Draw the pictures of benchmarks.tpu.stage_choices.

    Args:
      report: of the benchmark.
      folder: to write them to.
    """
    from performance import stage_plots  # loads matplotlib

    settings = report["settings"]
    title = (
        "Which blocks the stages of EfficientNet-X-B0 want, by latency alone\n"
        f"batch {settings['batch']}, {settings['dtype']}"
    )
    paint = functools.partial(
        stage_plots.stage_choices, rows=report["rows"], title=title
    )
    PICTURE.write(report, folder, paint)


def tpu_forms(report: Report, note: str) -> str:
    """Return which exact form of each network is the fastest on each generation.

    Args:
      report: of benchmarks.tpu.forms.
      note: the line below.
    """
    rows = report["rows"]
    lines = [
        (
            row["model"].replace("_", "-"),
            row["topology"],
            *_fastest(row["train_step"], compiled=row["train_step_compiled"]),
            *_fastest(row["inference"], compiled=True),
        )
        for row in rows
    ]
    head = ["network", "TPU"]
    for what in ("train step", "inference"):
        head += [f"{what}, ms as written", "fastest", "in which form"]
    parts = [
        f"Estimated ms of {report['batch']} images on one device, as written and in "
        "the fastest form of the same numbers:",
        table(head, lines, right="  rr rr "),
    ]
    known = {row["model"] for row in rows}
    if missing := [name for name in tpu_forms_script.MODELS if name not in known]:
        parts.append(f"Not compiled: {', '.join(missing).replace('_', '-')}.")
    return "\n\n".join([*parts, *_tried(rows), note])


def _fastest(found: Report | None, *, compiled: bool) -> tuple[str, str, str]:
    """Return milliseconds as written, those of the fastest form, and that form."""
    if not compiled:
        return "not compiled", "", ""
    if found is None or found["milliseconds"] is None:
        return "does not fit", "", ""
    gain = "" if not found["gain"] else f" ({-found['gain']:.1%})"
    settings = found["settings"]
    return (
        three_digits(found["as_written_ms"]),
        f"{three_digits(found['milliseconds'])}{gain}",
        _form(settings) if settings else "as written",
    )


def _form(settings: Report) -> str:
    """Return settings of `build_model` in a few words."""
    words = []
    if (size := settings.get("stem_block_size", 1)) > 1:
        by = settings.get("stem_reshuffle", "device")
        words.append(f"{size}x{size} patches by the {by}")
    if settings.get("input_layout", "NHWC") != "NHWC":
        words.append(settings["input_layout"])
    if settings.get("split_gradients"):
        words.append("gradients split")
    if settings.get("fold_batch_norm"):
        words.append("batch norm folded")
    return ", ".join(words) or "no patches"


def _tried(rows: Sequence[Report]) -> Iterator[str]:
    """Yield what the first network's first layers cost in all forms, if compiled."""
    mine = [row for row in rows if row["model"] == rows[0]["model"]]
    times = {row["topology"]: _first_layers(row) for row in mine}
    times = {name: found for name, found in times.items() if found}
    if not times:
        return
    forms = list(dict.fromkeys(form for found in times.values() for form in found))
    yield (
        f"What was tried: the stem and the first block of {rows[0]['model']} in "
        "training, against the same as written. Nothing else differs:"
    )
    lines = [
        (form, *(_change(found.get(form)) for found in times.values()))
        for form in forms
    ]
    yield table(("form", *times), lines, right=" " + "r" * len(times))


def _first_layers(row: Report) -> dict[str, float | None]:
    """Return by form how many times the time as written its first layers take."""
    found = [one for one in row["compiled"] if one["extent"] == "first layers"]
    base = next((one["milliseconds"] for one in found if one["as_written"]), None)
    if base is None:
        return {}
    return {
        _form(one): one["milliseconds"] and one["milliseconds"] / base
        for one in found
        if not one["as_written"]
    }


def _change(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio - 1:+.1%}"
