import concurrent.futures
import hashlib
import json
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import input as benchmark
from benchmarks.support.input import sides
from input_pipeline import dataset_info, records


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> str:
    """32 pictures of 96 x 64 pixels."""
    folder = tmp_path_factory.mktemp("noise")
    pixels = np.random.RandomState(0).randint(0, 256, [64, 96, 3]).astype(np.uint8)
    example = records.make_example(
        tf.io.encode_jpeg(pixels).numpy(),
        label=1,
        height=64,
        width=96,
        filename="noise.JPEG",
        synset="",
        text="",
    )
    shard = records.write_shard(str(folder / "train-0"), [example] * 32)
    info = dataset_info.DatasetInfo(
        "noise", 1, ("noise",), {"train": dataset_info.SplitInfo((shard,))}
    )
    dataset_info.write_info(info, str(folder))
    return str(folder)


def report_of(capsys, data_dir: str, *arguments: str) -> dict:
    common = [f"--data_dir={data_dir}", "--repeats=1", "--resolution=64"]
    assert benchmark.main([*common, *arguments]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


@pytest.mark.slow
def test_stages_add_up_to_the_whole(data_dir, capsys):
    report = report_of(capsys, data_dir, "--no_augment", "--images=1024")
    assert set(report) == {
        "benchmark",
        "cpu_ms_per_image",
        "cpu_ms_per_image_min_max",
        "images_per_second_per_core",
        "stages",
        "stages_sum",
        "peer",
        "host_feeds",
        "data",
        "settings",
        "method",
        "machine",
        "versions",
        "does_not_show",
        "date",
    }
    whole = report["cpu_ms_per_image"]
    assert report["cpu_ms_per_image_min_max"] == [whole, whole]
    assert report["images_per_second_per_core"] == pytest.approx(1000 / whole, rel=0.01)
    rates = report["host_feeds"]["images_per_second"]
    assert rates["240 vCPUs"] == pytest.approx(240_000 / whole, rel=0.01)
    stages = ["read", "parse", "decode_crop", "resize", "flip", "batch"]
    assert list(report["stages"]) == stages
    assert sum(report["stages"].values()) == pytest.approx(report["stages_sum"], 0.01)
    # By how much they differ is up to what else the machine does.
    assert report["stages_sum"] > 0
    assert report["peer"] is None
    assert report["data"]["images"] == 32
    assert report["data"]["mean_pixels"] == 64 * 96
    assert 1000 < report["data"]["mean_bytes"] < 64 * 96 * 3


@pytest.mark.slow
def test_beside_the_model_garden(data_dir, capsys):
    report = report_of(capsys, data_dir, "--against=model_garden", "--num_layers=1")
    ours, theirs = report["cpu_ms_per_image"], report["peer_cpu_ms_per_image"]
    assert report["ratio"] == pytest.approx(ours / theirs, rel=0.01)
    assert report["ratio_min_max"] == [report["ratio"]] * 2
    assert list(report["stages"])[-2:] == ["augment", "batch"]
    assert report["versions"].keys() == {"tensorflow", "tf-models-official"}


def test_who_waits_for_a_core_is_not_at_rest():
    """Whatever else the machine does: its threads are counted, not their time."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        hashed = pool.submit(lambda: hashlib.sha256(bytes(2**27)).digest())
        seen = set()
        while not hashed.done():
            seen.add(sides._has_work())
        assert True in seen
        asleep = threading.Event()
        pool.submit(asleep.wait)
        end = time.monotonic() + 60  # other tests' threads have to come to rest, too
        while sides._has_work():
            assert time.monotonic() < end
        asleep.set()


def test_increments_of_growing_prefixes():
    """The second repeat ran while the machine was twice as slow."""
    stages = benchmark._stages([[0.5, 1.0, 0.5], [0.75, 1.5, 0.75], [2.0, 4.0, 2.0]])
    assert stages == {"read": 0.5, "parse": 0.25, "decode_crop": 1.25}


def test_ratios_are_of_the_same_repeat():
    ours, plain, theirs = [1.0, 2.0, 3.0], [1.5, 3.0, 3.0], [2.0, 4.0, 4.0]
    compared = benchmark._compared("model_garden", ours, plain, theirs)
    assert compared["ratio"] == 0.5
    assert compared["plain_ratio"] == 0.75
    assert compared["ratio_min_max"] == [0.5, 0.75]
    assert compared["peer_cpu_ms_per_image"] == 4.0


@pytest.mark.parametrize("split", ["test", "train[3shard:]"])
def test_a_mistake_is_one_line(split, data_dir, capsys):
    assert benchmark.main([f"--data_dir={data_dir}", f"--split={split}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert split in line
