"""What the compiler of TPUs says of a training step, as a row of a report."""

from typing import Any

from tpu_compiler import CompilerReport


def row(report: CompilerReport) -> dict[str, Any]:
    """Return a step's cycles, time and memory; or why it has none."""
    if report.memory is None:
        verdict = "compile" if report.verdict == "refused" else "fit"
        return {"failed": f"it does not {verdict}: {report.message}"}
    return {
        "cycles": report.cycles,
        "milliseconds": report.milliseconds,
        "temporaries_mb": round(report.memory.temporaries / 2**20),
    }
