"""What `preflight.tuning` says to a person, and to another program."""

from collections.abc import Iterable
from typing import Any

from common.console import wrap
from preflight import forms
from preflight.tuning_rows import (
    ENOUGH,
    NOTE,
    FastestForm,
    FormEstimate,
    OtherBatch,
    SkippedForms,
    TuningFinding,
)


def lines_of(finding: TuningFinding) -> list[str]:
    """Return what was found as lines of text."""
    match finding:
        case SkippedForms():
            skipped = finding.reasons.items()
            return ["", *(wrap(f"Not compiled, {k}: {why}") for k, why in skipped)]
        case FormEstimate():
            return [_estimate(finding)]
        case FastestForm():
            return ["", *_fastest(finding), ""]
        case OtherBatch():
            return [wrap(_other_batch(finding))]


def _estimate(one: FormEstimate) -> str:
    """Return a line for a form, in columns."""
    folded = ", batch norm folded" * one.folded
    said = "as written" if one.as_written else f"{one.form}{folded}"
    if one.milliseconds is None:
        return f"  {one.extent}: {said}: {one.problem or 'no estimate'}"
    return f"  {one.extent}: {one.milliseconds:7.2f} ms  {said}"


def _fastest(found: FastestForm) -> list[str]:
    best, written = found.best, found.written
    what = f"{found.extent} of {found.images:,} images a device"
    if best is None:
        return [f"No form of the {what} is known to compile and fit"]
    if best == written:
        return [f"Fastest form of the {what}: as written"]
    line = f"Fastest form of the {what}: {best.milliseconds:.1f} ms"
    if found.gain is None:
        line += "; as written it does not fit"
    else:
        line += (
            f", {found.gain:.1%} less than the {written.milliseconds:.1f} as written"
        )
    small = found.gain is not None and found.gain < ENOUGH
    return [line, *_settings(found), *(_SMALL if small else ())]


_SMALL = [
    wrap(
        f"Less than {ENOUGH:.0%} means nothing between two networks; of one network's "
        "forms it is what the compiler counts, and may be lost on a TPU.",
        indent="",
    )
]


def _settings(found: FastestForm) -> list[str]:
    """Return what to write to have the best form."""
    assert found.best is not None
    changed = forms.changes(found.best.form, found.written.form)
    if found.extent == "train step":
        return [f"  {line}" for line in forms.gin_lines(changed)]
    if found.best.folded:
        changed["fold_batch_norm"] = True
    given = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    said = f"models.build_model(..., {given}), its weights by stem_forms.copy_weights"
    export = "; python -m train.export --fold_batch_norm" * found.best.folded
    return [f"  {said}{export}"]


def _other_batch(found: OtherBatch) -> str:
    """Return what another batch costs; it is no exact form."""
    each = f"{found.images:,} images a replica"
    each += f" in {found.micro_batches} micro-batches" * (found.micro_batches > 1)
    if found.milliseconds is None or found.gain is None:
        return f"Another recipe, {each}: {found.problem}"
    than = "less" if found.gain >= 0 else "more"
    return (
        f"Another recipe, {each}: {found.milliseconds:.1f} ms a step, "
        f"{abs(found.gain):.1%} {than} an image; batch norm sees other images together"
    )


def note() -> str:
    """Return how far all of it is to be trusted."""
    return wrap(NOTE, indent="")


def to_json(found: Iterable[TuningFinding]) -> dict[str, Any]:
    """Return all that was found, ready for JSON."""
    said: dict[str, Any] = {
        "skipped": {},
        "compiled": [],
        "train_step": None,
        "inference": None,
        "other_batches": [],
        "note": NOTE,
    }
    for one in found:
        match one:
            case SkippedForms():
                said["skipped"] |= one.reasons
            case FormEstimate():
                said["compiled"].append(form_as_json(one))
            case FastestForm():
                said[one.extent.replace(" ", "_")] = _fastest_as_json(one)
            case OtherBatch():
                said["other_batches"].append(_batch_as_json(one))
    return said


def form_as_json(one: FormEstimate) -> dict[str, Any]:
    """Return what is known of a form."""
    return {
        "extent": one.extent,
        **forms.as_settings(one.form),
        "fold_batch_norm": one.folded,
        "as_written": one.as_written,
        "milliseconds": one.milliseconds,
        "problem": one.problem,
    }


def _fastest_as_json(found: FastestForm) -> dict[str, Any]:
    best, changed = found.best, {}
    if best is not None:
        changed = forms.changes(best.form, found.written.form)
        changed |= {"fold_batch_norm": True} if best.folded else {}
    return {
        "images_per_replica": found.images,
        "as_written_ms": found.written.milliseconds,
        "milliseconds": best and best.milliseconds,
        "gain": found.gain,
        "settings": changed,
        "gin": forms.gin_lines(changed) if found.extent == "train step" else [],
    }


def _batch_as_json(one: OtherBatch) -> dict[str, Any]:
    return {
        "images_per_replica": one.images,
        "accumulation_steps": one.micro_batches,
        "milliseconds": one.milliseconds,
        "gain_per_image": one.gain,
        "problem": one.problem,
    }
