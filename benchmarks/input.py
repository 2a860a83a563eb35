"""What feeding one image costs a host's CPU: one line of JSON.

    python -m benchmarks.input --data_dir=data/photos --against=model_garden

Measures CPU time, not speed, of `train_dataset` with RandAugment, from records to uint8
batches: with the fused ops where they are built, and with TensorFlow's own alone, and
of each stage within the latter; of `eval_dataset` with pixels in float32 and in uint8;
and beside it, on the same records, the Model Garden's image classification. What the
rounding to uint8 loses is measured on four photos; with --export_dir, of a
SavedModel's logits, too. Each side has a process of its own. Time counts from one
moment at which its pipeline is at rest, with all buffers full, to another, so that what
is decoded ahead is neither lost nor another measurement's. Every repeat measures all in
turns and gives a ratio of its own, so what else the machine does hits all alike.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.support import machine, results
from benchmarks.support.input.case import (
    BATCHING,
    EVALUATIONS,
    PEERS,
    PLAIN,
    PREFIXES,
    SHUFFLE_BUFFER,
    WHOLE,
    InputSettings,
)
from common import cli, console, extras
from input_pipeline.errors import DataError

# What official.vision imports and the main set-up lacks.
_GARDENS = ("cv2", "pycocotools", "tensorflow_datasets")
_HOSTS = (96, 240)  # vCPUs of machines that are common: eight GPUs, a TPU v4

_METHOD = {
    "cpu_ms_per_image": "user and system time of the process, of all its threads; "
    "median of the repeats",
    "stages": "of TensorFlow's own ops. Read to augment: what a pipeline that ends "
    "there costs more than one that ends a stage before, each with the guard against "
    "bad records, and handing on one pixel of an image; batch: by itself, on images in "
    "memory. So stages_sum does not follow from cpu_ms_per_image",
    "evaluation": "the same split in the order of its files, again and again",
    "warm_up": "every pipeline has made as many images as a repeat takes; all records "
    "have been read once, and come from the operating system's memory",
}


def measure(settings: InputSettings, peer: str | None, repeats: int) -> dict[str, Any]:
    """Return what the JSON says that is measured.

    Args:
      settings: of all pipelines.
      peer: one of PEERS, or None.
      repeats: how often everything is measured.

    Raises:
      DataError: there is no such dataset, or no such split of it.
    """
    from benchmarks.support.input.sides import SideProcess
    from input_pipeline.dataset_info import load_info
    from input_pipeline.fused import library

    load_info(settings.data_dir).split(settings.split)  # before processes start
    names = ["ours"] if peer is None else ["ours", peer]
    sides = {name: SideProcess(name, settings) for name in names}
    data = sides["ours"].ask("data")
    prefixes = PREFIXES if settings.augments else PREFIXES[:-1]
    rows = [(side, WHOLE) for side in sides]
    rows += [
        ("ours", name) for name in (PLAIN, *prefixes, BATCHING, *EVALUATIONS.values())
    ]
    cpu_ms: dict[tuple[str, str], list[float]] = {row: [] for row in rows}
    for i in range(repeats):
        for side, name in rows:
            cpu_ms[side, name].append(sides[side].ask("cpu_ms", name))
        wholes = {side: cpu_ms[side, WHOLE][-1] for side in sides}
        wholes[PLAIN] = cpu_ms["ours", PLAIN][-1]
        said = ", ".join(f"{name} {ms:.3f}" for name, ms in wholes.items())
        console.say(f"repeat {i + 1}/{repeats}: {said} ms")
    for process in sides.values():
        process.close()
    ours, plain = cpu_ms["ours", WHOLE], cpu_ms["ours", PLAIN]
    stages = _stages([cpu_ms["ours", name] for name in prefixes])
    stages[BATCHING] = statistics.median(cpu_ms["ours", BATCHING])
    return {
        **_figures("cpu_ms_per_image", ours),
        "images_per_second_per_core": round(1000 / statistics.median(ours), 1),
        "fused_ops": library.find().ops is not None,
        **_figures("plain_cpu_ms_per_image", plain),
        **_figures("fused_ratio", _ratios(ours, plain)),
        "fused_ratio_is": "with the fused ops / with TensorFlow's own; 1 and noise "
        "where they are not built",
        "stages": {name: round(ms, 3) for name, ms in stages.items()},
        "stages_sum": round(sum(stages.values()), 3),
        "evaluation": _evaluation(
            {pixels: cpu_ms["ours", row] for pixels, row in EVALUATIONS.items()},
            settings.resolution,
        ),
        **(
            _compared(peer, ours, plain, cpu_ms[peer, WHOLE])
            if peer
            else {"peer": None}
        ),
        "host_feeds": _host_feeds(statistics.median(ours)),
        "data": data,
    }


def _stages(prefixes: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return what each prefix costs more than the one before, by the median."""
    nothing = [0.0] * len(prefixes[0])
    pairs = zip([nothing, *prefixes], prefixes, strict=False)
    return {
        name: statistics.median(b - a for a, b in zip(before, after, strict=True))
        for name, (before, after) in zip(PREFIXES, pairs, strict=False)
    }


def _evaluation(
    cpu_ms: Mapping[str, Sequence[float]], resolution: int
) -> dict[str, Any]:
    """Return what an image of evaluation costs, by the type of its pixels."""
    bytes_each = {"float32": 4, "uint8": 1}
    return {
        **{
            pixels: {
                **_figures("cpu_ms_per_image", times),
                "bytes_per_image": bytes_each[pixels] * 3 * resolution**2,
            }
            for pixels, times in cpu_ms.items()
        },
        **_figures("ratio", _ratios(cpu_ms["float32"], cpu_ms["uint8"])),
        "ratio_is": "CPU time of float32 / that of uint8; median of the repeats' "
        "ratios. The bytes are what travels to the devices",
    }


def _ratios(some: Sequence[float], others: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(some, others, strict=True)]


def _compared(
    peer: str, ours: Sequence[float], plain: Sequence[float], theirs: Sequence[float]
) -> dict[str, Any]:
    return {
        "peer": peer,
        **_figures("peer_cpu_ms_per_image", theirs),
        **_figures("ratio", _ratios(ours, theirs)),
        **_figures("plain_ratio", _ratios(plain, theirs)),
        "ratio_is": "ours / the peer's, lower is better; median of the repeats' "
        "ratios; plain_ratio: of ours without the fused ops",
        "peer_is": "the Model Garden's ImageClassificationTask.build_inputs, with the "
        "defaults of its DataConfig but for: RandAugment of the same layers and "
        "magnitude, pixels in bfloat16 as its TPU configs have them, "
        f"{SHUFFLE_BUFFER} instead of 10,000 records to shuffle",
    }


def _figures(name: str, values: Sequence[float]) -> dict[str, Any]:
    """Return the median and its spread."""
    return {
        name: round(statistics.median(values), 3),
        f"{name}_min_max": [round(min(values), 3), round(max(values), 3)],
    }


def _host_feeds(cpu_ms: float) -> dict[str, Any]:
    counts = {f"{os.cpu_count()} cores, this machine": os.cpu_count() or 1}
    counts |= {f"{count} vCPUs": count for count in _HOSTS}
    rates = {name: round(1000 * count / cpu_ms) for name, count in counts.items()}
    return {
        "images_per_second": rates,
        "is": "an extrapolation: cores * 1000 / cpu_ms_per_image, as if every vCPU "
        "were a core of this machine and had nothing else to do",
    }


def _parser() -> argparse.ArgumentParser:
    parser = results.parser("benchmarks.input", __doc__)
    parser.add_argument(
        "--data_dir", type=cli.path, required=True, help="a prepared dataset"
    )
    parser.add_argument(
        "--split", default="train", help="of a large one, some shards: train[:4shard]"
    )
    parser.add_argument("--against", choices=PEERS, help="whom to measure beside ours")
    parser.add_argument(
        "--images",
        type=cli.positive,
        default=SHUFFLE_BUFFER,
        help=f"in a repeat; best a multiple of {SHUFFLE_BUFFER}, the shuffle buffer",
    )
    parser.add_argument("--repeats", type=cli.positive, default=7)
    parser.add_argument("--resolution", type=cli.positive, default=224)
    parser.add_argument(
        "--num_layers", type=cli.positive, default=2, help="RandAugment's"
    )
    parser.add_argument(
        "--magnitude", type=cli.number(least=0), default=10, help="RandAugment's"
    )
    parser.add_argument("--no_augment", dest="augments", action="store_false")
    parser.add_argument(
        "--export_dir",
        type=cli.weights_path,
        help="a SavedModel of train.export, in a folder named like its network, whose "
        "logits are looked at, too",
    )
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Measure, and print the line of JSON."""
    if arguments.against:
        extras.require(*_GARDENS, task=f"--against={arguments.against}")
    import tensorflow as tf

    from benchmarks.support.input import pixel_loss
    from input_pipeline.bad_records import explain

    flags = dict(vars(arguments))
    output, peer, repeats = map(flags.pop, ("output", "against", "repeats"))
    export_dir = flags.pop("export_dir")
    settings = InputSettings(**flags)
    hardware = machine.describe()  # before this benchmark is part of the load
    rounding = pixel_loss.measure(settings.resolution, export_dir)
    try:
        measured = measure(settings, peer, repeats)
    except tf.errors.OpError as error:
        text = explain(error)
        if text is None:
            raise
        raise DataError(text) from error
    packages = ("tensorflow", *(["tf-models-official"] if peer else []))
    report = {
        "benchmark": "input",
        **measured,
        "rounding": rounding,
        "settings": {**dataclasses.asdict(settings), "repeats": repeats},
        "method": _METHOD,
        "machine": hardware,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "does_not_show": "disks, buckets and networks; a host with many cores, which "
        "share memory and threads' locks; accuracy; the copy to an accelerator",
    }
    results.publish(report, output)


if __name__ == "__main__":
    sys.exit(main())
