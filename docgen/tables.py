"""Tables of what the code itself says: variants, settings, commands, exit statuses."""

import ast
import dataclasses
import functools
import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from common.errors import Status, UserError
from common.project import ROOT
from docgen import transfer
from docgen.docstrings import described, first_paragraph
from docgen.markdown import code, marked, sentence, table

Render = Callable[[], str]

# Functions that a config may name, each a block, and the field of Experiment that calls
# them; "" is none. What a field hands over is no setting of a config.
_FUNCTIONS = {
    "input_pipeline.dataset.train_dataset": "train_data",
    "input_pipeline.dataset.eval_dataset": "eval_data",
    "input_pipeline.randaugment.rand_augment": "",
    "input_pipeline.autoaugment.auto_augment": "",
    "input_pipeline.erasing.random_erasing": "",
    "input_pipeline.mixing.mixup_cutmix": "mixing",
    "models.efficientnet_x.build_model": "build_model",
}
# Modules of such functions, each module a block.
_MODULES = {"train.optimizer": "optimizer", "train.schedule": "learning_rate"}
_MAY_CHANGE = {
    "always": "yes",
    "accepted": "by flag",
    "never": "no",
}
_FAMILIES = {
    "efficientnet-x": "EfficientNet-X, the paper's main table",
    "efficientnet-h": "EfficientNet-H: wider, with a smaller expansion",
    "efficientnet-x-tpu": "EfficientNet-X, scaled by its latency on TPUs",
    "efficientnet-h-tpu": "EfficientNet-H, scaled by its latency on TPUs",
    "efficientnet-x-gpu": "EfficientNet-X, scaled by its latency on GPUs",
    "efficientnet-x-v5e": "EfficientNet-X, scaled here to the latency of TPU v5e; "
    "nobody has trained one",
    "efficientnet": "EfficientNet, the baseline",
    "efficientnet-lite": "EfficientNet-Lite, for phones and other processors of int8",
    "efficientnetv2": "EfficientNetV2",
    "timm": "timm's networks of these names, which are other ones",
}
# RandAugment's M: the authors' for EfficientNet-B5 and B7, else our proposal.
_MAGNITUDES = {5: 17, 6: 17, 7: 28}


def catalogue(names: Iterable[str] | None = None) -> str:
    """Return the variants by family: size, cost and published accuracy.

    Args:
      names: of the variants; None is all.
    """
    from models import VARIANTS, get_variant
    from models import catalogue as known

    names = list(VARIANTS if names is None else names)
    head, *rows = known.rows(map(get_variant, names), notes := {})
    by_family: dict[str, list[list[str]]] = {}
    for name, row in zip(names, rows, strict=True):
        cells = [code(row[0]), *row[1:-1], _listed(row[-1])]
        by_family.setdefault(_family(name), []).append(cells)
    found = []
    for family, title in _FAMILIES.items():
        if family in by_family:
            right = " " + "r" * (len(head) - 2)
            found += [f"**{title}**", table(head, by_family[family], right=right)]
    return "\n\n".join([*found, _numbered(notes), *known.LEGEND])


def _family(name: str) -> str:
    return "timm" if name.endswith("-timm") else re.sub(r"(-b\d|\d|-[a-z]+)$", "", name)


def _listed(accuracies: str) -> str:
    return accuracies.replace("  ", ", ")


def _numbered(notes: Mapping[str, int]) -> str:
    return "\n".join(f"- [{number}] {text}." for text, number in notes.items())


def recipes() -> str:
    """Return what of ImageNet's recipe hangs on the variant, and what to expect."""
    from models import catalogue as known
    from models import get_variant
    from train.settings.gin_text import literals

    recipe = literals((ROOT / "gin_configs/runs/imagenet.gin").read_text())
    batch = recipe["experiment.Experiment.global_batch_size"]
    magnitude = recipe["randaugment.rand_augment.magnitude"]
    notes: dict[str, int] = {}
    rows = []
    for family in ("efficientnet-x", "efficientnet"):
        for number in range(8):
            name = f"{family}-b{number}"
            rows.append(
                (
                    code(name),
                    f"{_MAGNITUDES.get(number, magnitude)}",
                    f"{batch:,}",
                    _listed(known.accuracies(get_variant(name), notes)),
                )
            )
    head = "variant", "magnitude", "batch", "published top-1 %"
    return "\n\n".join(
        [
            table(head, rows, right=" rr"),
            _numbered(notes),
            "None of these accuracies was measured here. Magnitudes are the authors' "
            "for EfficientNet-B5 and B7, and a proposal for the others.",
        ]
    )


def experiment() -> str:
    """Return every setting of Experiment."""
    from train.experiment import Experiment

    rows = [
        (
            code(field.name),
            _default(parameter.default),
            marked(field.metadata["rule"][1]),
            _MAY_CHANGE[field.metadata["may_change"]],
            sentence(field.metadata["doc"]),
        )
        for field, parameter in zip(
            dataclasses.fields(Experiment),
            _parameters(Experiment).values(),
            strict=True,
        )
    ]
    head = "setting", "default", "value", "may change", "meaning"
    note = (
        "May change: in the middle of a run, from one start to the next; by flag: with "
        "`--accept_config_changes`."
    )
    return f"{table(head, rows)}\n\n{note}"


def progressive() -> str:
    """Return what a stage of Experiment.progressive may set."""
    from train import stage_rows

    end = code(stage_rows.UNTIL), "required", "Where the stage ends, in epochs."
    fields = (
        (name, "none" if name.strip("`") in stage_rows.OWN else default, said)
        for name, default, said in _fields(stage_rows.Stage, none="the recipe's")
    )
    return table(("setting", "default", "meaning"), [end, *fields])


def stage_spec() -> str:
    """Return the fields of a stage, which a config may change."""
    from models import StageSpec

    return table(("field", "default", "meaning"), _fields(StageSpec))


def variant() -> str:
    """Return the fields of a variant of one's own."""
    from models import Variant

    return table(("field", "default", "meaning"), _fields(Variant))


def _fields(kind: type, none: str = "") -> Iterator[tuple[str, str, str]]:
    for name, parameter in _parameters(kind).items():
        default = parameter.default
        cell = none if default is None and none else _default(default)
        yield code(name), cell, _said(kind, "Attributes", name)


def _said(documented: Any, section: str, name: str) -> str:
    """Return what a docstring says of an argument or a field.

    Raises:
      UserError: it says nothing.
    """
    docs = described(documented, section)
    if name not in docs:
        where = f"{documented.__module__}.{documented.__qualname__}"
        raise UserError(f"{where}: {section} of its docstring do not have {name!r}")
    return sentence(docs[name])


def function(full_name: str) -> str:
    """Return the settings of a function that a config may name."""
    module, _, name = full_name.rpartition(".")
    called = getattr(importlib.import_module(module), name)
    rows = _settings(called, _FUNCTIONS[full_name])
    return table(("setting", "default", "meaning"), rows)


def module(name: str) -> str:
    """Return the settings of all functions of a module that a config may name."""
    from train.settings.functions import FUNCTIONS

    imported, short = importlib.import_module(name), name.rpartition(".")[2]
    found = []
    for one in FUNCTIONS[name]:
        called = getattr(imported, one)
        text = sentence(first_paragraph(called.__doc__).removeprefix("Make "))
        rows = list(_settings(called, _MODULES[name]))
        found.append(f"**{code(f'{short}.{one}')}** {text}")
        found.append(table(("setting", "default", "meaning"), rows))
    return "\n\n".join(found)


def _settings(called: Any, field: str) -> Iterator[tuple[str, str, str]]:
    """Yield a function's settings, without what its caller hands over."""
    from train.experiment import Experiment

    handed_over = _parameters(Experiment)[field].handed_over if field else None
    for name, parameter in _parameters(called).items():
        if parameter.by_caller if handed_over is None else name in handed_over:
            continue
        yield code(name), _default(parameter.default), _said(called, "Args", name)


def _parameters(called: Any) -> Mapping[str, Any]:
    from train.settings.resolver import parameters

    return parameters(called)


def _default(value: Any) -> str:
    """Return a default as a gin file has it."""
    from train.settings.resolver import UNSET

    return "required" if value is UNSET else code(_written(value))


def _written(value: Any) -> str:
    if isinstance(value, tuple) and value:
        return f"({', '.join(map(_written, value))})"
    if isinstance(value, float) and len(repr(value)) > len("0.00001"):
        return f"{value:.4g}"  # 10 / 3
    return repr(value)


def job_file() -> str:
    """Return every field of a job file."""
    schema = json.loads((ROOT / "launch/job/schema.json").read_text())
    return table(("field", "default", "value", "meaning"), _job_fields(schema, ""))


def _job_fields(schema: Any, above: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in schema["properties"].items():
        path = f"{above}{name}"
        if "properties" in field:
            yield from _job_fields(field, f"{path}.")
            continue
        required = "required" if name in schema.get("required", ()) else ""
        default = code(str(field["default"])) if "default" in field else required
        yield code(path), default, _job_values(field), field["description"]


def _job_values(field: Any) -> str:
    """Return which values a field takes, in words."""
    if "enum" in field:
        return ", ".join(code(str(value)) for value in field["enum"])
    bounds = {
        "minimum": "from {:,}",
        "exclusiveMinimum": "above {:,}",
        "maximum": "up to {:,}",
    }
    limits = [words.format(field[n]) for n, words in bounds.items() if n in field]
    kinds = {"array": "a list", "object": "a mapping", "string": "a text"}
    kind = kinds.get(field["type"], f"a {field['type']}".replace("a int", "an int"))
    return " ".join((kind, *limits))


def exit_statuses() -> str:
    """Return what the exit status of a command means."""
    rows = [
        (f"{status}", _said(Status, "Attributes", status.name)) for status in Status
    ]
    return table(("exit status", "meaning"), rows, right="r")


# Rooms in the order in which a user comes to them; the others measure and maintain.
_USERS = (
    *("train", "input_pipeline", "models", "preflight", "launch", "search"),
    *("performance", "tpu_compiler"),
)


def commands() -> str:
    """Return every command, and what it does."""
    from benchmarks.commands import find, modules

    trees = dict(modules())
    rows: dict[str, list[tuple[str, str]]] = {}
    for command in find():
        doc = first_paragraph(ast.get_docstring(trees[command.name]))
        row = code(f"python -m {command.name}"), sentence(doc)
        rows.setdefault(command.name.partition(".")[0], []).append(row)
    use = [row for room in _USERS for row in rows.pop(room, ())]
    head = "command", "what it does"
    maintain = [row for room in sorted(rows) for row in rows[room]]
    return "\n\n".join(
        [table(head, use), "To measure and to maintain:", table(head, maintain)]
    )


def doctor_checks() -> str:
    """Return what launch.doctor looks at."""
    from launch.doctor.checks import CHECKS, NODE_CHECKS

    rows = [
        (
            str(number),
            check.name,
            marked(check.how),
            marked(check.remedy),
            _source(check.source),
        )
        for number, check in enumerate(CHECKS + NODE_CHECKS, 1)
    ]
    head = "", "check", "how it is known", "remedy", "source"
    note = f"The last {len(NODE_CHECKS)} are those of `--node`."
    return f"{table(head, rows, right='r')}\n\n{note}"


def _source(source: str) -> str:
    """Return a link to where a check's matter is written."""
    if "://" in source:
        host = source.partition("://")[2].partition("/")[0]
        return f"[{host}]({source})"
    page = source.removeprefix("docs/")
    return f"[{page.removesuffix('.md')}]({page})"


BLOCKS: dict[str, Render] = {
    "models.catalogue": catalogue,
    "pretrained.weights": transfer.weights,
    "settings.experiment": experiment,
    **{
        f"settings.{'.'.join(name.split('.')[-2:])}": functools.partial(function, name)
        for name in _FUNCTIONS
    },
    **{
        f"settings.{name.rpartition('.')[2]}": functools.partial(module, name)
        for name in _MODULES
    },
    "settings.progressive": progressive,
    "fields.job_file": job_file,
    "fields.stage_spec": stage_spec,
    "fields.variant": variant,
    "recipes.imagenet": recipes,
    "doctor.checks": doctor_checks,
    "exit_statuses": exit_statuses,
    "commands": commands,
}
