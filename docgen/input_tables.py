"""Tables of what an image of evaluation costs, and what fewer bits lose of it."""

from collections.abc import Mapping
from typing import Any

from docgen.markdown import code, table, three_digits

Report = Mapping[str, Any]


def evaluation(costs: Report) -> str:
    """Return what an image of evaluation costs, by the type of its pixels."""
    rows = [
        (
            code(f"pixels = '{pixels}'"),
            spread(costs[pixels], "cpu_ms_per_image"),
            f"{costs[pixels]['bytes_per_image'] / 1e3:.0f}",
        )
        for pixels in ("float32", "uint8")
    ]
    head = "evaluation, from record to batch", "CPU ms", "kB to the device"
    return "\n\n".join(
        [
            "An image of evaluation, of the same records; float32 over uint8 is "
            f"{spread(costs, 'ratio')} in time:",
            table(head, rows, right=" rr"),
        ]
    )


def rounding(losses: Report, resolution: int) -> str:
    """Return what is lost where float32 becomes uint8."""
    names = {
        "nearest": "rounded to the nearest level",
        "fraction_dropped": "its fraction dropped",
    }
    logits = losses.get("logits")
    head = ["", "largest", "with clipping", "mean"]
    head += ["logits: largest", "mean", "same class"] if logits else []
    rows = []
    for key, name in names.items():
        found = losses[key]
        row = [name, f"{found['largest_inside']:.2g}", f"{found['largest']:.3g}"]
        row.append(three_digits(found["mean"]))
        if logits:
            of = logits[key]
            row.append(three_digits(of["largest_difference"]))
            row.append(three_digits(of["mean_difference"]))
            row.append(f"{of['same_class']} of {len(losses['photos'])}")
        rows.append(row)
    photos = ", ".join(losses["photos"])
    text = (
        "What uint8 loses of the reference's float32, in levels of 0..255, on "
        f"{photos} at {resolution} px"
    )
    if logits:
        text += f", and in logits of {code(logits['network'])}, the largest of which "
        text += f"is {three_digits(logits['largest'])}"
    return "\n\n".join(
        [f"{text}:", table(head, rows, right=" " + "r" * (len(head) - 1))]
    )


def spread(report: Report, name: str) -> str:
    """Return a figure with the least and the greatest of its repeats."""
    least, most = map(three_digits, report[f"{name}_min_max"])
    return f"{three_digits(report[name])} ({least} to {most})"
