"""What `python -m search.surrogate` prints: how good the surrogate is."""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from common import console
from search.accuracies import error_forms, published, suggestion_table
from search.accuracies.prediction import Paired, Surrogate, Table
from search.networks.scaled import scaled_network

_AXES = ("depth", "width", "resolution")
_LEAST_ROWS = 3  # of a family that is left out: one gives its scale
# Where the axes' worth is told: blocks, width and pixels of x-b0 and x-b4, over x-b0's.
_POINTS = {"b0": (1.0, 1.0, 1.0), "b4": (2.0, 1.4, 380 / 224)}
# Two ways to about four times the MACs.
_DEEPER, _WIDER = (4.0, 1.0, 1.0), (1.0, 2.0, 1.0)
_STEP = 1.01


def make(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the whole report, of what JSON knows; arguments are the command's."""
    variants = [scaled_network(name) for name in arguments.variants or ()]
    settings: dict[str, Any] = {"family": arguments.family, "rows": arguments.rows}
    surrogate = Surrogate(**settings, recalled=arguments.recalled)
    report = {
        "rows": _rows(surrogate),
        "forms": {
            form: _form(surrogate, form, arguments.rows, arguments.recalled)
            for form in error_forms.FORMS
        },
        "open": _open(surrogate),
    }
    if not arguments.recalled:
        other = Surrogate(**settings, recalled=True)
        sizes = np.array(list(_POINTS.values()))
        change = np.median(other.predict(sizes), 0) - np.median(
            surrogate.predict(sizes), 0
        )
        report["recalled_would_change"] = dict(
            zip(_POINTS, np.round(change, 2).tolist(), strict=True)
        )
    if arguments.suggest:
        report["suggestions"] = suggestion_table.make(
            surrogate, arguments.suggest, variants
        )
    return report


def lines(report: dict[str, Any]) -> list[str]:
    """Return a report as a person reads it."""
    rows, forms = report["rows"], report["forms"]
    return [
        *_wrapped(
            f"{rows['fitted']} rows of {rows['families']} families are fitted"
            + f", {rows['own']} of them yours" * bool(rows["own"])
            + f"; left out: {rows['recalled']} recalled" * bool(rows["recalled"])
            + f". Networks of {rows['family']} are predicted, scaled by the rows of "
            f"{rows['scale_family']}."
        ),
        *_own_lines(rows),
        "",
        *_form_table(forms),
        "",
        *_wrapped(
            "Points of top-1, root mean square. A family is an architecture by one "
            "recipe; left out, its scale is from its first row alone. `architecture` "
            "leaves out all recipes of one. `axes` are the families in which single "
            f"axes grow. {_about_power(forms)}"
        ),
        "",
        *_family_table(forms),
        *_too_few_lines(rows["too_few"]),
        "",
        *_open_lines(report),
        *suggestion_table.lines(report.get("suggestions")),
    ]


def left_out(
    rows: Sequence[published.PublishedRow], form: str, *, together: bool = False
) -> dict[str, np.ndarray]:
    """Return what a form says of families that it was not fitted to, less what is true.

    Args:
      rows: that are fitted, each family's first row giving its scale.
      form: of `error_forms.FORMS`.
      together: whether all families of the same architecture are left out with one.

    Returns:
      Points of top-1 by family, of those with three rows or more, without the first.
    """
    table, found = Table(rows), {}
    kinds = np.array([published.architecture(name) for name in table.families])
    for number, name in enumerate(table.families):
        own = np.flatnonzero(table.family == number)
        if len(own) < _LEAST_ROWS:
            continue
        out = kinds == kinds[number] if together else np.arange(len(kinds)) == number
        parameters = table.fit(form, np.where(out[table.family], 0.0, 1.0))
        sizes, errors = table.sizes[own], table.errors[own]
        scale = error_forms.scale(form, parameters, sizes[:1], errors[:1])
        shape = error_forms.relative_error(form, parameters, sizes[1:])[0]
        found[name] = errors[1:] - scale * shape
    return found


def _rows(surrogate: Surrogate) -> dict[str, Any]:
    fitted = set(surrogate.rows)
    families = Counter(row.family for row in surrogate.rows)
    recalled = [row for row in published.read() if row.status == "recalled"]
    return {
        "fitted": len(surrogate.rows),
        "families": len(families),
        "too_few": sorted(name for name, n in families.items() if n < _LEAST_ROWS),
        "own": len(surrogate.own) - len(surrogate.left_out),
        "own_read": len(surrogate.own),
        "own_left_out": [
            {"place": row.place, "reason": reason} for row, reason in surrogate.left_out
        ],
        "recalled": sum(row not in fitted for row in recalled),
        "family": surrogate.family,
        "scale_family": surrogate.scale_family,
    }


def _form(
    surrogate: Surrogate, form: str, rows: str | None, recalled: bool
) -> dict[str, Any]:
    """Return a form's parameters, its errors, and what an axis is worth by it."""
    errors = left_out(surrogate.rows, form)
    together = left_out(surrogate.rows, form, together=True)
    one = Surrogate(family=surrogate.family, rows=rows, recalled=recalled, forms=[form])
    table = Table(surrogate.rows)
    parameters = table.fit(form, np.ones(len(table.errors)))
    return {
        "used": form in error_forms.SATURATING,
        "parameters": np.round(parameters, 3).tolist(),
        "base_top1": round(float(one.plain(np.ones((1, 3)))[form][0]), 2),
        "left_out": _rms(errors.values()),
        "left_out_architecture": _rms(together.values()),
        "axes": {name: _rms([e]) for name, e in errors.items() if "-axes" in name},
        "families": {
            name: {"rms": _rms([e]), "worst": round(float(e[np.abs(e).argmax()]), 2)}
            for name, e in errors.items()
        },
        "worth": {name: _worth(one, size) for name, size in _POINTS.items()},
    }


def _worth(surrogate: Surrogate, size: Sequence[float]) -> dict[str, Any]:
    """Return the share of the error, in %, that 1 % more of each axis takes away."""
    moved = np.array([size, *(np.array(size) * _along(i) for i in range(3))])
    errors = np.log(100 - surrogate.predict(moved))
    shares = 100 * (errors[:, :1] - errors[:, 1:])
    low, middle, high = np.percentile(shares, (10, 50, 90), axis=0).round(3).tolist()
    return {name: [middle[i], low[i], high[i]] for i, name in enumerate(_AXES)}


def _along(axis: int) -> np.ndarray:
    step = np.ones(3)
    step[axis] = _STEP
    return step


def _open(surrogate: Surrogate) -> dict[str, Any]:
    """Return what hangs on the form: depth or width at equal MACs."""
    found = {}
    for form in surrogate.forms:
        predictions = surrogate.predict(np.array([_DEEPER, _WIDER]))
        count = len(predictions) // len(surrogate.forms)
        at = surrogate.forms.index(form) * count
        of_form = predictions[at : at + count]
        paired = Paired.of(of_form[:, 0] - of_form[:, 1])
        found[form] = {k: round(v, 2) for k, v in vars(paired).items()}
    top1 = {(row.family, row.size): row.top1 for row in surrogate.rows}
    rows = {
        family: round(deeper - top1[family, _WIDER], 2)
        for (family, size), deeper in top1.items()
        if size == _DEEPER and (family, _WIDER) in top1
    }
    return {"four_times_deeper_less_twice_wider": found, "rows_say": rows}


def _rms(errors: Iterable[np.ndarray]) -> float:
    """Return the root mean square of errors, each family counting once."""
    return round(float(np.sqrt(np.mean([np.mean(one**2) for one in errors]))), 2)


def _wrapped(text: str) -> list[str]:
    return console.wrap(text, indent="").splitlines()


def _own_lines(rows: dict[str, Any]) -> list[str]:
    """Return which of your own rows are not fitted, a line each."""
    left_out = rows["own_left_out"]
    if not left_out:
        return []
    return [
        f"{rows['own']} of the {rows['own_read']} rows of your file are fitted; not:",
        *_items(*(f"{one['place']}: {one['reason']}" for one in left_out)),
    ]


def _about_power(forms: dict[str, Any]) -> str:
    """Return how `power` does on each family of single axes, against the forms used."""
    used = [form["axes"] for form in forms.values() if form["used"]]
    further, nearer, among = [], [], []
    for axis, rms in forms["power"]["axes"].items():
        others = [axes[axis] for axes in used]
        if rms > max(others):
            further.append(axis)
        elif rms < min(others):
            nearer.append(axis)
        else:
            among.append(axis)
    kinds = {
        "further off than any other form": further,
        "nearer than any other": nearer,
        "between the others": among,
    }
    found = [f"{how} on {', '.join(names)}" for how, names in kinds.items() if names]
    return f"`power` is {'; '.join(found)}. It never saturates and is not used."


def _too_few_lines(families: Sequence[str]) -> list[str]:
    """Return why families that are fitted have no line in the table above."""
    if not families:
        return []
    return _wrapped(
        f"Not in this table, with fewer than {_LEAST_ROWS} rows fitted: "
        f"{', '.join(families)}."
    )


def _form_table(forms: dict[str, Any]) -> list[str]:
    axes = sorted({name for form in forms.values() for name in form["axes"]})
    head = ["form", "base's top-1", "family left out", "architecture", *axes]
    rows = [
        [
            name,
            f"{form['base_top1']:.2f}",
            f"{form['left_out']:.2f}",
            f"{form['left_out_architecture']:.2f}",
            *(f"{form['axes'][axis]:.2f}" for axis in axes),
        ]
        for name, form in forms.items()
    ]
    return console.table([head, *rows], right=True)


def _family_table(forms: dict[str, Any]) -> list[str]:
    used = {name: form["families"] for name, form in forms.items() if form["used"]}
    families = next(iter(used.values()))
    rows = [
        [
            family,
            *(
                f"{by[family]['rms']:.2f} ({by[family]['worst']:+.1f})"
                for by in used.values()
            ),
        ]
        for family in families
    ]
    head = ["family left out: rms (worst)", *used]
    return console.table([head, *rows], right=True)


def _open_lines(report: dict[str, Any]) -> list[str]:
    found = ["Error taken away, in %, by 1 % more of an axis (80 % of the resamples):"]
    head = ["form", *(f"{axis}, {at}" for at in _POINTS for axis in _AXES)]
    rows = [
        [
            name,
            *(
                "{:.3f} ({:.2f}-{:.2f})".format(*form["worth"][at][axis])
                for at in _POINTS
                for axis in _AXES
            ),
        ]
        for name, form in report["forms"].items()
    ]
    found += [*console.table([head, *rows], right=True), ""]
    found.append("What the rows do not decide, or a prediction does not see:")
    deeper = report["open"]["four_times_deeper_less_twice_wider"]
    text = "; ".join(
        f"{name} {one['median']:+.2f} ({one['low']:+.2f} to {one['high']:+.2f})"
        for name, one in deeper.items()
    )
    found += _items(
        f"depth or width at equal MACs: four times the blocks less twice the width is "
        f"predicted at {text} points; the rows have "
        + ", ".join(f"{v:+.1f}" for v in report["open"]["rows_say"].values())
        + ", which trainings with other seeds could well have given;",
        "kernel, kind of block, squeeze-and-excite, activation, strides, expansion: a "
        "prediction is the same for all of them;",
        "which stage is wide or deep: blocks and channels are counted over all stages;",
        "an absolute accuracy to better than a point: compare networks, in pairs.",
    )
    if change := report.get("recalled_would_change"):
        text = ", ".join(f"{value:+.2f} at {at}" for at, value in change.items())
        rows = report["rows"]
        # Of EfficientNet-X alone, unless rows of your own set its scale.
        stands_in = rows["scale_family"] != rows["family"]
        about = "EfficientNet-X's own scale: its accuracies are recalled, and are not"
        if not stands_in:
            about = "accuracies that are recalled, EfficientNet-X's among them: not"
        found += _items(
            f"{about} fitted. With --recalled predictions would change by {text}."
        )
    return found


def _items(*texts: str) -> list[str]:
    return [line for text in texts for line in console.wrap(f"- {text}").splitlines()]
