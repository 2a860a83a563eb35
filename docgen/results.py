"""Tables of what the benchmarks have measured, from the files in benchmarks/results."""

import datetime
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.support import results
from common import console
from docgen import formats as format_tables
from docgen import growth as growth_tables
from docgen import input_tables, latencies
from docgen import nas as nas_tables
from docgen import search as search_tables
from docgen import storage as storage_tables
from docgen import trainer as trainer_tables
from docgen import transfer as transfer_tables
from docgen.input_tables import spread
from docgen.markdown import code, table, three_digits

Report = Mapping[str, Any]
Render = Callable[[Report], str]

RESUME_TEST = "tests/train/test_run.py"

_WORDS = {
    "libtpu": "libtpu",
    "tensorflow": "TensorFlow",
    "keras": "Keras",
    "tf-models-official": "Model Garden",
    "python": "Python",
    "optuna": "Optuna",
    "torch": "torch",
    "ai-edge-litert": "LiteRT",
    "onnxruntime": "ONNX Runtime",
    "tf2onnx": "tf2onnx",
}


def note(report: Report, *, timed: bool = False) -> str:
    """Return the line below a benchmark's table: script, machine, versions, limits.

    Args:
      report: of the benchmark.
      timed: whether what else the machine did counts.
    """
    machine = report["machine"]
    cpu = " ".join(re.sub(r"\((R|TM)\)|CPU|@.*", "", machine["cpu"]).split())
    load = f", load {machine['load_average'][0]} at the start" if timed else ""
    versions = report.get("compiler", {}) | report["versions"]
    named = ", ".join(
        f"{_WORDS.get(name, name)} {version}" for name, version in versions.items()
    )
    day = datetime.date.fromisoformat(report["date"])
    return (
        f"`python -m benchmarks.{report['benchmark']}`, {day:%Y-%m-%d}, on "
        f"{console.count(machine['cores'], 'core')} of {cpu}{load}; {named}. "
        f"Not shown: {report['does_not_show']}."
    )


def latency(report: Report) -> str:
    """Return estimated milliseconds by family and number, and ratios."""
    from benchmarks.tpu.latency import FAMILIES, table

    times = {
        tuple(row["name"].rsplit("-b", 1)): row["milliseconds"]
        for row in report["networks"]
    }
    families = [one for one in FAMILIES if any(family == one for family, _ in times)]
    error = report["error_of_sum"]
    settings = report["settings"]
    return "\n\n".join(
        [
            f"Estimated ms of a batch of {settings['batch']} on {_device(settings)}, "
            f"{settings['dtype']}; ratios above 1 are in favour of the others:",
            table(times, families, sorted({number for _, number in times})),
            "The sum of the parts, each compiled by itself, differs from the whole by "
            f"{_percent(error['least'])} to {_percent(error['greatest'])} %, "
            f"{_percent(error['mean_absolute'])} % on average.",
            note(report),
        ]
    )


def _percent(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}"  # no "-0.0"


def _device(settings: Report) -> str:
    return settings["device"].replace(" a v", " a TPU v")


def headline(report: Report) -> str:
    """Return the others' networks beside ours of near published accuracy."""
    rows, control = [], ""
    for row in report["rows"]:
        theirs, ours = row["theirs_ms"], row["ours_ms"]["as published"]
        if row["theirs_published"] is None:
            control = (
                f"{row['theirs']} by both routes, timm's and ours: "
                f"{three_digits(theirs['as written'])} and {three_digits(ours)} ms."
            )
            continue
        published = row["theirs_published"]
        rows.append(
            (
                f"{row['theirs']}, {row['resolution']} px",
                f"{published['top1']} ({published['recipe']})",
                _best(theirs),
                row["ours"].removeprefix("efficientnet-"),
                f"{max(one['top1'] for one in row['ours_published'])}",
                three_digits(ours),
                three_digits(row["ratio"]["as published"]),
                three_digits(row["ratio"]["rewritten stem"]),
            )
        )
    head = (
        *("theirs", "top-1 %", "ms", "ours", "top-1 %", "ms", "theirs / ours"),
        "ours with rewritten stem",
    )
    settings = report["settings"]
    best = max(report["summary"].values(), key=lambda family: family["max"])
    return "\n\n".join(
        [
            f"Estimated ms of a batch of {settings['batch']} on one core of TPU "
            f"{settings['topology']}, {settings['dtype']}; top-1 as published by "
            "others; ratios above 1 are in favour of ours:",
            table(head, rows, right="  r  rrr"),
            f"The best ratio is {three_digits(best['max'])}; the paper's abstract says "
            "up to 7 against RegNet and ResNeSt, on a TPU v3 that nobody had here. "
            "RegNetY counts in the faster of two equal forms: as written, and with its "
            f"groups padded to 128 channels. {control}",
            *_missing(report),
            note(report),
        ]
    )


def _best(forms: Mapping[str, float | None]) -> str:
    """Return the faster form's time, and the other's."""
    written, padded = forms["as written"], forms.get("groups padded")
    if written is None or padded is None or written <= padded:
        return three_digits(written)
    return f"{three_digits(padded)} (as written {three_digits(written)})"


def _missing(report: Report) -> Iterator[str]:
    at = f"{report['settings']['topology']}: "
    unknown = *report["not_compiled"], *report["missing"]
    here = [one.removeprefix(at) for one in unknown if one.startswith(at)]
    if lacking := [*report["not_asked_for"], *here]:
        yield f"Not compiled: {'; '.join(lacking)}."


_FORMS = {
    "keras_jax_batch_norm": "Keras' batch norm, differentiated as on its JAX backend",
    "keras_batch_norm": "Keras' batch norm on TensorFlow",
    "as_written": "ours",
    "patches_hwcn": "ours, the stem on 4x4 patches by the host, HWCN",
}


def tpu_step(report: Report) -> str:
    """Return what the forms of the train step cost."""
    base = "keras_batch_norm"
    saved = report["fewer_cycles_than"][base]
    rows = [
        (
            words,
            three_digits(report["forms"][form]["milliseconds"]),
            "" if form == base else f"{-100 * saved[form]:+.1f} %",
        )
        for form, words in _FORMS.items()
    ]
    return "\n\n".join(
        [
            f"Estimated train step of {report['model']}, {report['batch']} images on "
            f"one core of TPU {report['topology']}:",
            table(("form", "ms", "against Keras' on TensorFlow"), rows, right=" rr"),
            note(report),
        ]
    )


def roofline(report: Report) -> str:
    """Return the networks of the picture."""
    from performance.analysis import RooflineRow

    rows = [RooflineRow(**row) for row in report["rows"]]
    networks = [row for row in rows if row.level == "network"]
    cells = [
        (
            row.network,
            three_digits(row.flops / 1e9),
            three_digits(row.bytes / 1e9),
            three_digits(row.intensity),
            three_digits((row.estimated_seconds or 0) * 1e3),
            three_digits(row.efficiency),
            f"{_share(rows, row, 'depthwise'):.0%}",
        )
        for row in networks
    ]
    head = (
        *("network", "W, GFLOP", "Q, GB", "I = W / Q, FLOP per byte", "estimated ms"),
        *("E", "time in depthwise"),
    )
    settings, (first, *_) = report["settings"], networks
    return "\n\n".join(
        [
            f"A batch of {settings['batch']} on {_device(settings)}, "
            f"{settings['dtype']}, whose roof is {first.peak_flops / 1e12:g} TFLOP/s "
            f"and {first.bytes_per_second / 1e9:g} GB/s, the ridge at "
            f"{first.ridge:.0f} FLOP per byte:",
            table(head, cells, right=" rrrrrr"),
            "E is the ideal time under the roof over the estimated one. Depthwise "
            "convolutions have the time of the expansions that the compiler fuses into "
            "them.",
            note(report),
        ]
    )


def _share(rows: list[Any], network: Any, kind: str) -> float:
    """Return the share of a network's time in its layers of a kind."""
    seconds = (
        row.estimated_seconds or 0
        for row in rows
        if (row.network, row.level, row.kind) == (network.network, "layer", kind)
    )
    return sum(seconds) / network.estimated_seconds


def preflight(report: Report) -> str:
    """Return what the command says, and when, where that was measured."""
    output = "\n".join(report["output"])
    parts = [f"```text\n{output}\n```", note(report, timed="seconds" in report)]
    if "seconds" in report:
        first, again = report["seconds"], report["seconds_again"]
        parts.insert(
            1,
            f"First verdict after {_minutes(first['first_verdict'])}, all of it after "
            f"{_minutes(first['all'])}, with nothing kept from before; the second time "
            f"after {again['first_verdict']:.0f} and {again['all']:.0f} seconds.",
        )
    return "\n\n".join(parts)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes"


def pod(report: Report) -> str:
    """Return what the command says, and what was published beside it."""
    published = report["published"]
    return "\n\n".join(
        [
            f"Published for {published['cores']:,} cores of TPU v3 "
            f"({published['source']}): {published['top1']:g} % in "
            f"{published['minutes']} minutes, by an abstract that names neither the "
            "network nor the epochs. Estimated here:",
            preflight(report),
        ]
    )


_OURS = ("ours x-b0", "ours efficientnet-b0")
_PEERS = {
    "keras.applications EfficientNetB0": ("keras.applications EfficientNetB0",),
    "timm efficientnet_b0": (
        "timm efficientnet_b0",
        "timm efficientnet_b0, passive threads",
    ),
}


def models(report: Report) -> str:
    """Return seconds of ours over seconds of others."""
    rows = []
    for ours in _OURS:
        for peer, forms in _PEERS.items():
            ratios = [
                _ratio(report[measure]["ratios"], name, forms)
                for measure, name in (
                    ("build", ours),
                    ("inference", ours),
                    ("inference", f"{ours}, folded batch norm"),
                    ("train_step", ours),
                )
            ]
            rows.append((f"{ours.removeprefix('ours ')} / {peer}", *ratios))
    head = (
        *("ours / theirs", "build", "inference", "inference, batch norm folded"),
        "training step",
    )
    settings = report["settings"]
    gmacs = report["gmacs_per_image"]
    return "\n\n".join(
        [
            f"Seconds of ours over seconds of theirs on a CPU, float32, batch "
            f"{settings['batch']}, {settings['size']} px; lower is better; median of "
            f"{settings['repeats']} interleaved repeats (least to greatest). X-B0 has "
            f"{gmacs['ours x-b0']:.2f} GMACs, EfficientNet-B0 "
            f"{gmacs['ours efficientnet-b0']:.2f}:",
            table(head, rows, right=" rrrr"),
            note(report, timed=True),
        ]
    )


def _ratio(ratios: Report, ours: str, peers: tuple[str, ...]) -> str:
    """Return a ratio with its spread, against the fastest way to run a peer."""
    found = [
        ratios[key]
        for peer in peers
        if (key := f"seconds of {ours} / seconds of {peer}") in ratios
    ]
    if not found:
        return "-"
    worst = max(found, key=lambda ratio: ratio["median"])
    least, median, most = (three_digits(worst[of]) for of in ("min", "median", "max"))
    return f"{median} ({least} to {most})"


_STAGES = {
    "read": "read",
    "parse": "parse",
    "decode_crop": "decode the crop",
    "resize": "resize",
    "flip": "flip",
    "augment": "RandAugment",
    "batch": "batch",
}


def input_pipeline(report: Report) -> str:
    """Return what an image costs a core of the host."""
    settings, data = report["settings"], report["data"]
    rows = [
        ("**ours, from record to uint8 batch**", spread(report, "cpu_ms_per_image")),
        ("**by TensorFlow's own ops**", spread(report, "plain_cpu_ms_per_image")),
        *((_STAGES[name], f"{ms:.2f}") for name, ms in report["stages"].items()),
        ("**the Model Garden's**", spread(report, "peer_cpu_ms_per_image")),
        ("**ours / the Model Garden's**", spread(report, "ratio")),
        ("**by TensorFlow's own ops / it**", spread(report, "plain_ratio")),
    ]
    return "\n\n".join(
        [
            f"CPU ms an image, JPEGs of {data['mean_pixels']:,} pixels in "
            f"{data['mean_bytes'] / 1e3:.0f} kB to {settings['resolution']} px with "
            f"RandAugment({settings['num_layers']}, {settings['magnitude']}); median "
            f"of {settings['repeats']} interleaved repeats (least to greatest):",
            table(("", "CPU ms"), rows, right=" r"),
            input_tables.evaluation(report["evaluation"]),
            input_tables.rounding(report["rounding"], settings["resolution"]),
            note(report, timed=True),
        ]
    )


def trainer(report: Report) -> str:
    """Return what is left of the bare step's speed in a run, and a run's waits."""
    return trainer_tables.runs(report, note(report, timed=True))


def transfer(report: Report) -> str:
    """Return how well few drawings are learnt, from trained weights and without."""
    return transfer_tables.accuracies(report, note(report, timed=True))


def nas(report: Report) -> str:
    """Return what architecture searches have found, and what they took."""
    return nas_tables.searches(report, note(report, timed=True))


def supernet(report: Report) -> str:
    """Return what a supernet's step costs beside its largest networks'."""
    return nas_tables.supernet(report, note(report, timed=True))


def install(report: Report) -> str:
    """Return sizes and seconds of installations."""
    by_what: dict[str, dict[str, Any]] = {}
    for row in report["rows"]:
        case = f"{row['installer']}, cache {row['cache']}"
        by_what.setdefault(row["what"], {})[case] = row
    cases = list(dict.fromkeys(case for by in by_what.values() for case in by))
    rows = [
        (
            code(what),
            f"{max(row['megabytes'] for row in by.values()):,}",
            *(f"{by[case]['seconds']:.0f}" for case in cases),
        )
        for what, by in by_what.items()
    ]
    return "\n\n".join(
        [
            "Megabytes of `.venv` with bytecode, and seconds from no `.venv` at all; "
            "an empty cache has everything downloaded:",
            table(("environment", "MB", *cases), rows, right=" r" + "r" * len(cases)),
            note(report, timed=True),
        ]
    )


def search(report: Report) -> str:
    """Return how near samplers came to the best network of planted problems."""
    return search_tables.samplers(report, note(report, timed=True))


def summary(reports: Mapping[str, Report]) -> str:
    """Return one table of what is most worth knowing, each figure with its script."""
    rows = [(what, figure, code(script)) for what, figure, script in _lines(reports)]
    return table(("what", "figure", "script"), rows)


def _lines(reports: Mapping[str, Report]) -> Iterator[tuple[str, str, str]]:
    ratio = reports["tpu.latency"]["ratios"]["0"]["efficientnet-x"]
    yield (
        "X-B0 against EfficientNet-B0, inference on one TPU v3 core, estimated",
        f"{ratio:.2f} times as fast",
        "benchmarks.tpu.latency",
    )
    rows = (row for row in reports["tpu.headline"]["rows"] if row["theirs_published"])
    best = max(rows, key=lambda row: row["ratio"]["as published"] or 0)
    yield (
        f"Best against RegNetY, ResNeSt and EfficientNet: {best['ours']} and "
        f"{best['theirs']}, estimated",
        f"{best['ratio']['as published']:.2f} times as fast",
        "benchmarks.tpu.headline",
    )
    saved = reports["tpu.step"]["fewer_cycles_than"]["keras_batch_norm"]
    yield (
        "Cycles of X-B0's train step that exact rewrites save on a TPU v3, estimated",
        f"{100 * saved['as_written']:.0f} %, with patches by the host "
        f"{100 * saved['patches_hwcn']:.0f} %",
        "benchmarks.tpu.step",
    )
    yield (
        "CPU time of the input pipeline, ours over the Model Garden's",
        f"{reports['input']['ratio']:.2f}; without a C++ compiler "
        f"{reports['input']['plain_ratio']:.2f}",
        "benchmarks.input",
    )
    yield (
        "Images/s of a whole run over those of its bare step, on a CPU",
        f"{reports['trainer']['ratio']:.2f}",
        "benchmarks.trainer",
    )
    ratios = reports["models"]["train_step"]["ratios"]
    keras = "seconds of ours efficientnet-b0 / seconds of keras.applications "
    yield (
        "Time of EfficientNet-B0's training step, ours over Keras' own, on a CPU",
        f"{ratios[keras + 'EfficientNetB0']['median']:.2f}",
        "benchmarks.models",
    )
    yield (
        "Weights of a run that was killed and started again, on a CPU",
        "equal, bit for bit",
        RESUME_TEST,
    )


def scaling(report: Report) -> str:
    """Return what scaling by latency has found."""
    return search_tables.scaling(report, note(report))


def stage_choices(report: Report) -> str:
    """Return what each stage costs with other blocks."""
    return latencies.stage_choices(report, note(report))


def tile_model(report: Report) -> str:
    """Return how far the tile model is off."""
    return latencies.tile_model(report, note(report))


def tpu_forms(report: Report) -> str:
    """Return which exact forms of networks are the fastest."""
    return latencies.tpu_forms(report, note(report))


def storage(report: Report) -> str:
    """Return what a bucket is asked for."""
    return storage_tables.storage(report, note(report))


def pretrained(report: Report) -> str:
    """Return what trained weights say of photos."""
    return transfer_tables.photos(report, note(report))


def formats(report: Report) -> str:
    """Return what each form of an export loses, weighs and takes."""
    return format_tables.formats(report, note(report, timed=True))


# By the name of the script; docgen.pictures draws the roofline's, too.
def growth(report: Report) -> str:
    """Return what data, runs and searches cost as they grow."""
    return growth_tables.growth(report, note(report, timed=True))


def prepare(report: Report) -> str:
    """Return what prepare and validate cost beside what others do."""
    return growth_tables.prepare(report, note(report, timed=True))


RENDERERS: dict[str, Render] = {
    "growth": growth,
    "prepare": prepare,
    "tpu.scaling": scaling,
    "tpu.stage_choices": stage_choices,
    "tpu.tile_model": tile_model,
    "tpu.latency": latency,
    "tpu.headline": headline,
    "tpu.step": tpu_step,
    "tpu.forms": tpu_forms,
    "tpu.roofline": roofline,
    "tpu.preflight": preflight,
    "tpu.pod": pod,
    "models": models,
    "input": input_pipeline,
    "trainer": trainer,
    "transfer": transfer,
    "nas": nas,
    "tpu.supernet": supernet,
    "install": install,
    "search": search,
    "storage": storage,
    "pretrained": pretrained,
    "formats": formats,
}


class _Reports(dict):
    """Reports by the name of their script, read when they are asked for."""

    def __missing__(self, name: str) -> Report:
        self[name] = results.load(results.FOLDER / f"{name}.json")
        return self[name]


def _rendered(name: str) -> str:
    return RENDERERS[name](_Reports()[name])


BLOCKS: dict[str, Callable[[], str]] = {
    **{f"results.{name}": functools.partial(_rendered, name) for name in RENDERERS},
    "results.summary": lambda: summary(_Reports()),
}
