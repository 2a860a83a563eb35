import datetime
import json
import re
import shlex

import pytest

from benchmarks.support import results as files
from benchmarks.support.run_waits import WAITS
from benchmarks.tpu import pod, preflight
from common.errors import UserError
from common.project import ROOT
from docgen import results
from tests.docgen import test_formats, test_latencies, test_storage
from tests.docgen import test_search as search_tables
from tests.docgen.test_tables import cells

COMMON = {
    "machine": {
        "cpu": "Intel(R) Xeon(R) CPU @ 2.20GHz",
        "cores": 2,
        "load_average": [1.5, 1.0, 0.5],
    },
    "versions": {"tensorflow": "2.20.0", "keras": "3.15.0"},
    "does_not_show": "a TPU",
    "date": "2026-11-29",
}
LATENCY = {
    "benchmark": "tpu.latency",
    "networks": [
        {"name": "efficientnet-b0", "milliseconds": 16.115},
        {"name": "efficientnet-x-b0", "milliseconds": 10.49},
    ],
    "ratios": {"0": {"efficientnet-x": 1.536}},
    "error_of_sum": {"least": -0.041, "greatest": -0.0004, "mean_absolute": 0.0182},
    "settings": {"batch": 64, "device": "one core of a v3 chip", "dtype": "bfloat16"},
    "compiler": {"libtpu": "0.0.52"},
    **COMMON,
}


def other(name, top1, theirs, ours, ours_ms, ratio):
    published = top1 and {"top1": top1, "recipe": "plain"}
    return {
        "theirs": name,
        "resolution": 224,
        "theirs_published": published,
        "theirs_ms": theirs,
        "ours": ours,
        "ours_published": [{"top1": 80.0}],
        "ours_ms": {"as published": ours_ms},
        "ratio": {"as published": ratio, "rewritten stem": None},
    }


HEADLINE = {
    "benchmark": "tpu.headline",
    "rows": [
        other(
            "regnety_080",
            79.9,
            {"as written": 72.44, "groups padded": 52.9},
            "efficientnet-x-b2",
            24.7,
            2.142,
        ),
        other(
            "resnest50d", 81.04, {"as written": 45.6}, "efficientnet-x-b3", 41.1, 1.1
        ),
        other(
            "efficientnet_b0", None, {"as written": 16.2}, "efficientnet-b0", 16.1, 1.0
        ),
    ],
    "summary": {"RegNetY": {"max": 2.142}, "ResNeSt": {"max": 1.1}},
    "not_asked_for": ["resnest200e"],
    "not_compiled": {"v3: resnest101e, as written": "needs 20 GiB"},
    "missing": ["v6e: resnest50d, as written"],
    "settings": {"batch": 64, "topology": "v3", "dtype": "bfloat16"},
    **COMMON,
}
TPU_STEP = {
    "benchmark": "tpu.step",
    "model": "efficientnet_x_b0",
    "topology": "v3",
    "batch": 64,
    "forms": {
        "keras_jax_batch_norm": {"milliseconds": 58.9},
        "keras_batch_norm": {"milliseconds": 52.7},
        "as_written": {"milliseconds": 44.6},
        "patches_hwcn": {"milliseconds": 42.0},
    },
    "fewer_cycles_than": {
        "keras_batch_norm": {
            "keras_jax_batch_norm": -0.117,
            "keras_batch_norm": 0.0,
            "as_written": 0.153,
            "patches_hwcn": 0.202,
        }
    },
    **COMMON,
}
PATCHES = {"stem_block_size": 4, "stem_reshuffle": "host"}
PLAIN = {"stem_block_size": 1, "stem_reshuffle": "device", "input_layout": "NHWC"}
TPU_FORMS = {
    "benchmark": "tpu.forms",
    "batch": 64,
    "rows": [
        {
            "model": "efficientnet_x_b0",
            "topology": "v3",
            "compiled": [
                {
                    **PLAIN,
                    **{"extent": "first layers", "as_written": True},
                    **{"milliseconds": 10.0, "fold_batch_norm": False},
                },
                {
                    **{**PLAIN, **PATCHES},
                    **{"extent": "first layers", "as_written": False},
                    **{"milliseconds": 7.5, "fold_batch_norm": False},
                },
            ],
            "train_step": {
                **{"as_written_ms": 44.6, "milliseconds": 42.0, "gain": 0.0583},
                "settings": PATCHES,
            },
            "inference": {
                **{"as_written_ms": 10.5, "milliseconds": 10.5, "gain": 0.0},
                "settings": {},
            },
            "train_step_compiled": True,
        },
        {
            "model": "efficientnet_x_b3",
            "topology": "v3",
            "compiled": [],
            "train_step": None,
            "inference": {
                **{"as_written_ms": 41.0, "milliseconds": 40.0, "gain": 0.0244},
                "settings": {"input_layout": "HWCN", "fold_batch_norm": True},
            },
            "train_step_compiled": False,
        },
    ],
    **COMMON,
}
ROOF = {
    "network": "b0",
    "ideal_seconds_by_layer": 0.0,
    "memory_bound_flops": 0,
    "peak_flops": 100e12,
    "bytes_per_second": 500e9,
}
ROOFLINE = {
    "benchmark": "tpu.roofline",
    "rows": [
        {
            **ROOF,
            **{"level": "layer", "part": "stem", "kind": "depthwise"},
            **{"flops": 1, "bytes": 1, "estimated_seconds": 4e-3},
        },
        {
            **ROOF,
            **{"level": "network", "flops": 50 * 10**9, "bytes": 10**9},
            "estimated_seconds": 16e-3,
        },
    ],
    "settings": LATENCY["settings"],
    **COMMON,
}


def spread(median):
    return {"min": median - 0.1, "median": median, "max": median + 0.1}


OURS = "seconds of ours efficientnet-b0 / seconds of "
MODELS = {
    "benchmark": "models",
    "build": {"ratios": {OURS + "timm efficientnet_b0": spread(7.6)}},
    "inference": {
        "ratios": {
            OURS + "keras.applications EfficientNetB0": spread(0.93),
            OURS + "timm efficientnet_b0": spread(0.74),
            OURS + "timm efficientnet_b0, passive threads": spread(0.8),
        }
    },
    "train_step": {
        "ratios": {OURS + "keras.applications EfficientNetB0": spread(0.86)}
    },
    "settings": {"batch": 8, "size": 224, "repeats": 7},
    "gmacs_per_image": {"ours x-b0": 0.9203, "ours efficientnet-b0": 0.386},
    **COMMON,
}
INPUT = {
    "benchmark": "input",
    "cpu_ms_per_image": 1.4,
    "cpu_ms_per_image_min_max": [1.3, 1.5],
    "peer_cpu_ms_per_image": 4.69,
    "peer_cpu_ms_per_image_min_max": [4.5, 5.0],
    "ratio": 0.3,
    "ratio_min_max": [0.29, 0.31],
    "plain_cpu_ms_per_image": 2.07,
    "plain_cpu_ms_per_image_min_max": [2.0, 2.2],
    "plain_ratio": 0.435,
    "plain_ratio_min_max": [0.41, 0.44],
    "stages": {"decode_crop": 0.84, "augment": 0.46},
    "settings": {"resolution": 224, "num_layers": 2, "magnitude": 10, "repeats": 7},
    "data": {"mean_pixels": 187500, "mean_bytes": 92100},
    "evaluation": {
        "float32": {
            "cpu_ms_per_image": 1.4,
            "cpu_ms_per_image_min_max": [1.3, 1.5],
            "bytes_per_image": 602_112,
        },
        "uint8": {
            "cpu_ms_per_image": 1.25,
            "cpu_ms_per_image_min_max": [1.2, 1.3],
            "bytes_per_image": 150_528,
        },
        "ratio": 1.12,
        "ratio_min_max": [1.1, 1.2],
    },
    "rounding": {
        "photos": ["cat", "dog"],
        "nearest": {"largest": 22.69, "largest_inside": 0.5, "mean": 0.126},
        "fraction_dropped": {"largest": 22.69, "largest_inside": 1.0, "mean": 0.251},
        "logits": {
            "network": "lite",
            "resolution": 224,
            "largest": 12.24,
            "nearest": {
                "largest_difference": 0.0607,
                "mean_difference": 0.0059,
                "same_class": 2,
            },
            "fraction_dropped": {
                "largest_difference": 0.151,
                "mean_difference": 0.0105,
                "same_class": 1,
            },
        },
    },
    **COMMON,
}
TRAINER = {
    "benchmark": "trainer",
    "images_per_second": [139.7, 140.0],
    "bare_step_images_per_second": [144.3, 140.0],
    "ratio": 0.984,
    "ratio_min_max": [0.968, 1.0],
    "step_cpu_ms_per_image": 7.1,
    "input_cpu_ms_per_image": 0.044,
    "ceiling": 1.0,
    "small": {
        "images_per_second": [1400.0, 1500.0],
        "bare_step_images_per_second": [2000.0, 2000.0],
        "ratio": 0.725,
        "ratio_min_max": [0.7, 0.75],
        "step_cpu_ms_per_image": 0.7,
        "input_cpu_ms_per_image": 0.25,
        "ceiling": 0.84,
    },
    "waits": {
        wait: {
            "seconds": [4.0, 5.0],
            "before_seconds": [8.0, 9.0],
            "ratio": 0.528,
            "cpu_seconds": [4.5, 4.5],
            "before_cpu_seconds": [6.0, 6.0],
            "cpu_ratio": 0.75,
        }
        for wait in WAITS
    },
    "waits_before": "HEAD~1",
    **COMMON,
}


def sampler(name, near, gap, evaluations, **more):
    return {
        "engine": name,
        "runs": 20,
        "near": near,
        "mean_gap": gap,
        "worst_gap": 2 * gap,
        "median_evaluations_until_near": evaluations,
        "ms_per_ask": 0.0345,
        **more,
    }


_STREAMS = [sampler("", 9, 0.04, 1), sampler("", 7, 0.1, 1)]
SEARCH = {
    "benchmark": "search",
    "settings": {"evaluations": 3000, "near": 0.1},
    "conditions": {"problem": "P", "ageing evolution": "A", "Optuna": "O"},
    "rows": [
        sampler("ageing evolution", 16, 0.0683, 1234, streams=_STREAMS),
        sampler("random", 0, 9.5, None),
    ],
    **COMMON,
}
PRETRAINED = {
    "benchmark": "pretrained",
    "networks": [
        {
            "name": name,
            "images": 2,
            "largest_logit": 12.34,
            "largest_difference": difference,
            "torch_float32_difference": difference,
            "same_first_class": same,
        }
        for name, difference, same in (("lite0", 1.26e-5, 2), ("lite1", None, None))
    ],
    "photos": [
        {
            "photo": "a.png",
            "classes": {
                "lite0": [["tabby", 0.41], ["lynx", 0.0149]],
                "lite1": [["lynx", 0.5], ["tabby", 0.4]],
            },
        }
    ],
    **COMMON,
}
TRANSFER = {
    "benchmark": "transfer",
    "sets": {
        "stamps": {
            "package": "a package",
            "classes": 3,
            "images": {"train": 80, "validation": 20},
            "starts": {
                "trained weights": {
                    "top1": [0.8, 0.7],
                    "mean_top1": 0.75,
                    "steps": 9,
                    "minutes": [1.0, 3.0],
                    "cpu_seconds": [60.0, 62.0],
                }
            },
        }
    },
    **COMMON,
}
NAS = {
    "benchmark": "nas",
    "sets": {
        "digits": {
            "source": "a package",
            "gin_file": "a.gin",
            "images": {"train": 4000, "validation": 1000},
            "minutes_to_found": 4.21,
            "minutes_of_steps": {"supernet": 2.5, "random": 2.4},
            "random_networks": 17,
            "top1": {"found": [98.7, 98.3], "baseline": [98.8, 98.6]},
            "parameters": {"found": 254202, "baseline": 489450},
            "milliseconds": {
                "searched by": {"found": 0.2496, "baseline": 0.3199},
                "exact": {"found": 0.2489, "baseline": None},
            },
            "deviation": 0.21,
            "against": {
                "baseline": {"difference": -0.2, "verdict": "equal"},
                "random": None,
            },
            "tau": 0.43,
            "tau_by_chance": 0.089,
            "ranked": 8,
        }
    },
    **COMMON,
}
SUPERNET = {
    "benchmark": "tpu.supernet",
    "topology": "v3",
    "batch": 64,
    "cpu_batch": 8,
    "searches": [
        {
            "gin_file": "a.gin",
            "networks": 2**70,
            "parameters": {
                "supernet": 9000000,
                "largest": 8000000,
                "largest_fused": 7000000,
            },
            "forms": {
                "supernet": {"cycles": 1500000, "temporaries_mb": 2000},
                "largest": {"cycles": 1000000, "temporaries_mb": 900},
                "largest_fused": {"failed": "it does not fit: too large"},
            },
            "times_the_cycles_of": {"largest": 1.5},
            "cpu": {
                "seconds_a_step": {
                    "supernet": 3.0,
                    "largest": 2.0,
                    "largest_fused": 1.0,
                },
                "times_that_of": {"largest": 1.5, "largest_fused": 3.0},
            },
        }
    ],
    **COMMON,
}
GROWTH = {
    "benchmark": "growth",
    "linear": 1.2,
    "cases": [
        {
            "name": "read",
            "axis": "records",
            "times": "once",
            "rows": [
                {"size": 10, "seconds": 0.1, "megabytes": 1.0},
                {"size": 10_000, "seconds": 0.1234, "megabytes": 20.0},
            ],
            "exponent": 1.0,
            "exponent_of_memory": 0.5,
        },
        {
            "name": "asked",
            "axis": "trials",
            "times": "each",
            "work": "bytes",
            "rows": [{"size": 10, "seconds": 0.1, "megabytes": 1.0, "work": 3}],
            "exponent": 1.8,
            "exponent_of_memory": 0.0,
            "exponent_of_work": 1.0,
        },
    ],
    **COMMON,
}
PREPARE = {
    "benchmark": "prepare",
    "images": 1000,
    "image_bytes": 92_638,
    "ms_an_image": {
        "ours": [1.0, 0.8, 0.9],
        "tpu_script": [1.6, 1.4, 1.5],
        "tfds": [0.3, 0.3, 0.3],
        "validate": [1.0, 1.0, 1.0],
        "decoded": [1.1, 1.0, 0.9],
    },
    "ratios": {
        "tpu_script": [1.6, 1.75, 1.6667],
        "tfds": [0.3, 0.375, 0.333],
        "validate": [1.1, 1.0, 0.9],
    },
    "goal": 1.5,
    "processes": [
        {
            "workers": 2,
            "processes": 4,
            "pss_megabytes": 1200,
            "first_file_seconds": 3.5,
            "seconds": 9.0,
        }
    ],
    **COMMON,
}
REPORTS = {
    "growth": GROWTH,
    "prepare": PREPARE,
    "tpu.stage_choices": {
        "benchmark": "tpu.stage_choices",
        **test_latencies.STAGE_CHOICES,
        **COMMON,
    },
    "tpu.tile_model": {
        "benchmark": "tpu.tile_model",
        **test_latencies.TILE_MODEL,
        **COMMON,
    },
    "tpu.latency": LATENCY,
    "tpu.headline": HEADLINE,
    "tpu.step": TPU_STEP,
    "tpu.forms": TPU_FORMS,
    "tpu.roofline": ROOFLINE,
    "models": MODELS,
    "input": INPUT,
    "trainer": TRAINER,
    "search": SEARCH,
    "tpu.scaling": {**search_tables.SCALING, **COMMON},
    "tpu.preflight": {
        "benchmark": "tpu.preflight",
        "command": ["python"],
        "output": ["", "yes"],
        **COMMON,
    },
    "tpu.pod": {
        "benchmark": "tpu.pod",
        "command": ["python"],
        "output": ["", "no"],
        "published": {"top1": 83.0, "minutes": 64, "cores": 1024, "source": "a paper"},
        **COMMON,
    },
    "install": {
        "benchmark": "install",
        "rows": [
            {
                "installer": "uv",
                "cache": "kept",
                "what": "make setup",
                "seconds": 31.4,
                "megabytes": 2144,
            },
            {
                "installer": "pip",
                "cache": "empty",
                "what": "make setup",
                "seconds": 90.2,
                "megabytes": 2144,
            },
        ],
        **COMMON,
    },
    "storage": {**test_storage.REPORT, **COMMON},
    "pretrained": PRETRAINED,
    "formats": {**test_formats.REPORT, **COMMON},
    "transfer": TRANSFER,
    "nas": NAS,
    "tpu.supernet": SUPERNET,
}


def test_the_line_below_a_table():
    assert results.note(LATENCY, timed=True) == (
        "`python -m benchmarks.tpu.latency`, 2026-11-29, on 2 cores of Intel Xeon, "
        "load 1.5 at the start; libtpu 0.0.52, TensorFlow 2.20.0, Keras 3.15.0. Not "
        "shown: a TPU."
    )


@pytest.mark.parametrize("name", results.RENDERERS)
def test_every_table_says_where_it_comes_from(name):
    text = results.RENDERERS[name](REPORTS[name])
    assert text.splitlines()[-1].startswith(f"`python -m benchmarks.{name}`, 2026-")


def test_growth():
    text = results.growth(GROWTH)
    assert cells(text)[2:] == [
        ["records", "read", "10,000", "1.00", "0.50", "-", "0.12", "20"],
        [
            *("trials", "asked, for each", "10", "1.80*", "0.00", "1.00 (bytes)"),
            *("0.1", "1"),
        ],
    ]
    assert "What grows faster than that: asked (trials)." in text
    sound = {**GROWTH, "cases": GROWTH["cases"][:1]}
    assert "Nothing grows faster than that." in results.growth(sound)


def test_prepare():
    text = results.prepare(PREPARE)
    rows = cells(text)
    assert rows[2] == ["`prepare imagenet`", "0.900", "1,111"]
    assert rows[-1] == ["2", "1,200", "3.5", "9.0"]
    assert "the TPU repository's 1.67 (1.60 to 1.75), TFDS' 0.333" in text
    assert "processes" not in results.prepare({**PREPARE, "processes": []})


def test_transfer():
    text = results.transfer(TRANSFER)
    want = ["stamps", "3", "80 + 20", "trained weights", "80.0, 70.0", "75.0"]
    assert cells(text)[2:] == [[*want, "2.0", "61"]]


def test_nas():
    text = results.nas(NAS)
    table = [row for row in cells(text) if len(row) == 6]
    assert table[2:] == [
        [
            *("the found network", "98.70, 98.30", "98.50"),
            *("254,202", "0.2496", "0.2489"),
        ],
        ["the recipe's own", "98.80, 98.60", "98.70", "489,450", "0.3199", "-"],
    ]
    assert "4,000 + 1,000 images, by `a.gin`" in text
    assert (
        "up to the found network: 4.2 minutes, of which 2.5 are training steps" in text
    )
    assert "tau 0.43 over 8 networks, as high by chance in 8.9 % of the cases" in text
    assert "0.21 points; against the recipe's own: -0.20 points, equal." in text


def test_supernet():
    text = results.supernet(SUPERNET)
    own, plain, fused = (
        "the supernet with its controller",
        "the largest network, no block fused",
        "the largest network, fused",
    )
    assert cells(text)[2:] == [
        [own, "9,000,000", "1,500,000", "2,000", "3.000"],
        [plain, "8,000,000", "1,000,000", "900", "2.000"],
        [fused, "7,000,000", "it does not fit: too large", "-", "1.000"],
    ]
    assert "`a.gin`, 1.2e+21 networks:" in text
    assert f"of cycles, 1.50 times those of {plain}; of seconds on the CPU" in text
    assert "3.00 times those of the largest network, fused." in text


def test_latency():
    text = results.latency(LATENCY)
    assert text.startswith("Estimated ms of a batch of 64 on one core of a TPU v3 chip")
    assert cells(text)[2:] == [["0", "16.1", "10.5", "1.54"]]
    assert "by -4.1 to 0.0 %, 1.8 % on average" in text


def test_headline():
    text = results.headline(HEADLINE)
    assert cells(text)[2:] == [
        [
            *("regnety_080, 224 px", "79.9 (plain)", "52.9 (as written 72.4)"),
            *("x-b2", "80.0", "24.7", "2.14", "-"),
        ],
        [
            *("resnest50d, 224 px", "81.04 (plain)", "45.6"),
            *("x-b3", "80.0", "41.1", "1.10", "-"),
        ],
    ]
    assert "The best ratio is 2.14" in text
    assert "efficientnet_b0 by both routes, timm's and ours: 16.2 and 16.1 ms" in text
    assert "Not compiled: resnest200e; resnest101e, as written." in text


def test_tpu_step():
    assert cells(results.tpu_step(TPU_STEP))[2:] == [
        ["Keras' batch norm, differentiated as on its JAX backend", "58.9", "+11.7 %"],
        ["Keras' batch norm on TensorFlow", "52.7", ""],
        ["ours", "44.6", "-15.3 %"],
        ["ours, the stem on 4x4 patches by the host, HWCN", "42.0", "-20.2 %"],
    ]


def test_tpu_forms():
    text = results.tpu_forms(TPU_FORMS)
    assert "Not compiled: efficientnet-x-tpu-b3." in text
    found = cells(text)
    assert found[2:4] == [
        [
            *("efficientnet-x-b0", "v3", "44.6", "42.0 (-5.8%)"),
            *("4x4 patches by the host", "10.5", "10.5", "as written"),
        ],
        [
            *("efficientnet-x-b3", "v3", "not compiled", "", ""),
            *("41.0", "40.0 (-2.4%)", "HWCN, batch norm folded"),
        ],
    ]
    assert found[4:] == [
        ["form", "v3"],
        ["---", "---:"],
        ["4x4 patches by the host", "-25.0%"],
    ]


def test_roofline():
    text = results.roofline(ROOFLINE)
    assert "100 TFLOP/s and 500 GB/s, the ridge at 200 FLOP per byte" in text
    # E: 2 ms for the bytes alone.
    assert cells(text)[2] == [
        *("b0", "50.0", "1.00", "50.0", "16.0", "0.125", "25%"),
    ]


def test_pretrained():
    assert cells(results.pretrained(PRETRAINED)) == [
        ["photo", "lite0, five of 1,000", "lite1, first"],
        ["---", "---", "---"],
        ["a.png", "tabby 0.410, lynx 0.015", "lynx 0.500"],
        ["network", "largest logit", "ours", "torch's float32", "same class"],
        ["---", "---:", "---:", "---:", "---:"],
        ["lite0", "12.3", "1.3e-05", "1.3e-05", "2 of 2"],
        ["lite1", "12.3", "-", "-", "-"],
    ]


def test_models():
    rows = cells(results.models(MODELS))[2:]
    assert rows[2] == [
        "efficientnet-b0 / keras.applications EfficientNetB0",
        *("-", "0.930 (0.830 to 1.03)", "-", "0.860 (0.760 to 0.960)"),
    ]
    # Against timm as it runs faster.
    assert rows[3][:3] == [
        "efficientnet-b0 / timm efficientnet_b0",
        *("7.60 (7.50 to 7.70)", "0.800 (0.700 to 0.900)"),
    ]


_OF_LOGITS = "logits: largest", "mean", "same class"


def test_input():
    text = results.input_pipeline(INPUT)
    assert "187,500 pixels in 92 kB to 224 px with RandAugment(2, 10)" in text
    assert cells(text)[2:] == [
        ["**ours, from record to uint8 batch**", "1.40 (1.30 to 1.50)"],
        ["**by TensorFlow's own ops**", "2.07 (2.00 to 2.20)"],
        ["decode the crop", "0.84"],
        ["RandAugment", "0.46"],
        ["**the Model Garden's**", "4.69 (4.50 to 5.00)"],
        ["**ours / the Model Garden's**", "0.300 (0.290 to 0.310)"],
        ["**by TensorFlow's own ops / it**", "0.435 (0.410 to 0.440)"],
        ["evaluation, from record to batch", "CPU ms", "kB to the device"],
        ["---", "---:", "---:"],
        ["`pixels = 'float32'`", "1.40 (1.30 to 1.50)", "602"],
        ["`pixels = 'uint8'`", "1.25 (1.20 to 1.30)", "151"],
        [*("", "largest", "with clipping", "mean"), *_OF_LOGITS],
        ["---", *["---:"] * 6],
        [
            *("rounded to the nearest level", "0.5", "22.7", "0.126"),
            *("0.0607", "0.00590", "2 of 2"),
        ],
        [
            *("its fraction dropped", "1", "22.7", "0.251"),
            *("0.151", "0.0105", "1 of 2"),
        ],
    ]
    assert "float32 over uint8 is 1.12 (1.10 to 1.20) in time" in text
    assert "on cat, dog at 224 px, and in logits of `lite`, the largest" in text
    lost = {k: v for k, v in INPUT["rounding"].items() if k != "logits"}
    without = results.input_pipeline({**INPUT, "rounding": lost})
    assert cells(without)[-1] == ["its fraction dropped", "1", "22.7", "0.251"]


def test_trainer():
    text = results.trainer(TRAINER)
    found = cells(text)
    assert found[2] == ["x-b0 at 64 px", "139.7", "144.3", "0.97"]
    assert found[5] == ["that of `make train`", "1500.0", "2000.0", "0.75"]
    assert text.startswith("A whole run over its bare compiled step: 0.984 (0.968 to")
    assert "0.25 in the pipeline, so that run / step may be 0.84 where" in text
    compared = ["4.50", "4.50", "8.50", "6.00", "0.53", "0.75"]
    assert found[-len(WAITS) :] == [[what, *compared] for what in WAITS.values()]
    alone = results.trainer({**TRAINER, "waits_before": None})
    assert cells(alone)[-1] == [WAITS["end"], "4.50", "4.50"]


def test_preflight():
    report = REPORTS["tpu.preflight"]
    text = results.preflight(report)
    assert text.startswith(
        "```text\n\nyes\n```\n\n`python -m benchmarks.tpu.preflight`"
    )
    seconds = {
        "seconds": {"first_verdict": 189.0, "all": 462.0},
        "seconds_again": {"first_verdict": 19.6, "all": 24.4},
    }
    output, timed, note = results.preflight({**report, **seconds}).split("\n\n")[-3:]
    assert output.endswith("yes\n```")
    assert timed == (
        "First verdict after 3.1 minutes, all of it after 7.7 minutes, with nothing "
        "kept from before; the second time after 20 and 24 seconds."
    )
    assert "load 1.5 at the start" in note


def test_pod():
    text = results.pod(REPORTS["tpu.pod"])
    assert text.splitlines()[:4] == [
        "Published for 1,024 cores of TPU v3 (a paper): 83 % in 64 minutes, by an "
        "abstract that names neither the network nor the epochs. Estimated here:",
        "",
        "```text",
        "",
    ]


@pytest.mark.parametrize(
    ("page", "benchmark"), [("preflight", preflight), ("recipes", pod)]
)
def test_the_page_shows_the_command_that_was_run(page, benchmark):
    text = (ROOT / f"docs/{page}.md").read_text()
    found = re.findall(r"^python -m preflight (?:.*\\\n)*.*$", text, re.MULTILINE)
    commands = [shlex.split(one.replace("\\\n", " ")) for one in found]
    assert list(benchmark.COMMAND) in commands


def test_install():
    assert cells(results.install(REPORTS["install"])) == [
        ["environment", "MB", "uv, cache kept", "pip, cache empty"],
        ["---", "---:", "---:", "---:"],
        ["`make setup`", "2,144", "31", "90"],
    ]


def test_search():
    text = results.search(SEARCH)
    assert text.startswith("Points from the best network, which is known, after 3,000")
    assert cells(text) == [
        [
            *("sampler", "within 0.1 of the best", "mean gap", "worst gap"),
            *("evaluations until within 0.1, median", "CPU ms an ask"),
        ],
        ["---", "---:", "---:", "---:", "---:", "---:"],
        ["ageing evolution", "16 of 20", "0.07", "0.14", "1,234", "0.0345"],
        ["random", "0 of 20", "9.50", "19.00", "-", "0.0345"],
    ]
    assert (
        "other random numbers, ageing evolution: 9 of 20 (mean gap 0.04); 7 of 20 "
        "(mean gap 0.10)." in text
    )


def test_summary():
    assert cells(results.summary(REPORTS))[2:] == [
        [
            "X-B0 against EfficientNet-B0, inference on one TPU v3 core, estimated",
            *("1.54 times as fast", "`benchmarks.tpu.latency`"),
        ],
        [
            "Best against RegNetY, ResNeSt and EfficientNet: efficientnet-x-b2 and "
            "regnety_080, estimated",
            *("2.14 times as fast", "`benchmarks.tpu.headline`"),
        ],
        [
            "Cycles of X-B0's train step that exact rewrites save on a TPU v3, "
            "estimated",
            *("15 %, with patches by the host 20 %", "`benchmarks.tpu.step`"),
        ],
        [
            "CPU time of the input pipeline, ours over the Model Garden's",
            *("0.30; without a C++ compiler 0.43", "`benchmarks.input`"),
        ],
        [
            "Images/s of a whole run over those of its bare step, on a CPU",
            *("0.98", "`benchmarks.trainer`"),
        ],
        [
            "Time of EfficientNet-B0's training step, ours over Keras' own, on a CPU",
            *("0.86", "`benchmarks.models`"),
        ],
        [
            "Weights of a run that was killed and started again, on a CPU",
            *("equal, bit for bit", "`tests/train/test_run.py`"),
        ],
    ]
    resumed = (ROOT / results.RESUME_TEST).read_text()
    assert "\ndef test_sigkill_in_the_middle(" in resumed


@pytest.mark.parametrize("path", sorted(files.FOLDER.glob("*")), ids=lambda p: p.stem)
def test_a_stored_result_is_whole_and_used(path):
    """`load` refuses what a person has changed."""
    report = files.load(path)
    assert path.stem == report["benchmark"]
    assert path.stem in results.RENDERERS
    assert report["machine"].keys() == {"cpu", "cores", "load_average"}
    assert report.get("compiler", {}) | report["versions"]
    assert len(report["does_not_show"]) > 10
    assert datetime.date.fromisoformat(report["date"]).year >= 2026


def test_a_result_that_is_missing_or_changed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"there is no .*latency.json; python -m ben"):
        results.BLOCKS["results.tpu.latency"]()
    files.write(tmp_path / "tpu.latency.json", LATENCY)
    assert results.BLOCKS["results.tpu.latency"]() == results.latency(LATENCY)
    changed = json.loads((tmp_path / "tpu.latency.json").read_text())
    changed["networks"][0]["milliseconds"] = 99.0
    (tmp_path / "tpu.latency.json").write_text(json.dumps(changed, indent=1) + "\n")
    with pytest.raises(UserError, match=r"latency.json is not as python -m benchmarks"):
        results.BLOCKS["results.tpu.latency"]()
