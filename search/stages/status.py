"""How far a search is, from its files alone; nothing is changed. No framework."""

from search.engine import progress, result_files
from search.stages import run_numbers, stage_text
from search.stages.folder import (
    COMMAND,
    EVOLUTION,
    FINAL,
    RANDOM,
    SUPERNET,
    NasFolder,
)


def lines(folder: NasFolder) -> list[str]:
    """Return a line or more for each stage: what came of it, or how far it is."""
    command = folder.read(folder / COMMAND)
    if command is None:
        return ["nothing has begun yet"]
    found, is_next = [], True
    stages = command["stages"]
    for number, name in enumerate(stages, start=1):
        head = f"{number}/{len(stages)} {name}"
        done = folder.stage(name)
        if done is not None:
            found += [f"{head}: {line}" for line in stage_text.lines(name, done)]
            continue
        under_way = _under_way(folder, name) if is_next else ""
        found.append(f"{head}: {under_way or 'not begun'}")
        is_next = False
    found += [f"not done: {name} ({why})" for name, why in command["skipped"].items()]
    return found


def _under_way(folder: NasFolder, name: str) -> str:
    """Return how far a stage is, "" where that cannot be seen."""
    if name == SUPERNET:
        line = run_numbers.line(folder / SUPERNET, None)
        return line and f"at {line}"
    if name in (RANDOM, EVOLUTION):
        results = result_files.read(folder / name)
        return progress.line(results, None) if results else ""
    if name == FINAL:
        done = len(list((folder / "stages").glob(f"{FINAL}-*.json")))
        return f"{done} trainings are done"
    return ""
