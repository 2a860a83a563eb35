import importlib.util
import json
import subprocess
import sys
import types

import numpy as np
import pytest

from benchmarks.support import results, timm_stablehlo
from benchmarks.support.headline import estimates, generations, peers
from benchmarks.support.headline.estimates import Job, Times
from benchmarks.tpu import headline
from common.errors import UserError
from models import catalogue, get_variant
from models.catalogue import Published
from tests.support.commands import status
from tests.support.folders import NOT_OURS
from tpu_compiler import CompilerError, Topology

BY_NAME = {peer.name: peer for peer in peers.PEERS}
REGNET, RESNEST = BY_NAME["regnety_040"], BY_NAME["resnest50d"]
needs_timm = pytest.mark.skipif(
    not importlib.util.find_spec("timm"), reason="needs timm"
)


class FakeReport:
    def __init__(self, milliseconds):
        self.milliseconds = milliseconds
        self.compiled = milliseconds is not None
        self.message = "compiles and fits" if self.compiled else "needs 20 GiB"


def row(theirs, ours):
    return peers.PeerRow(REGNET, REGNET.published[0], "efficientnet-x-b1", theirs, ours)


def test_the_faster_of_their_forms_counts():
    compared = row({"as written": 60.0, "groups padded": 24.0}, {"as published": 16.0})
    assert compared.ratio("as published") == 1.5
    assert compared.as_json()["ratio_of_each_form"] == {
        "as written": {"as published": 3.75},
        "groups padded": {"as published": 1.5},
    }


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"as written": 60.0, "groups padded": None}, {"as published": 16.0}),
        ({"as written": None}, {"as published": 16.0}),
        ({"as written": 60.0}, {"as published": None}),
        ({"as written": 60.0}, {}),
    ],
)
def test_no_claim_where_a_form_is_missing(theirs, ours):
    assert row(theirs, ours).ratio("as published") is None


def test_counterparts_are_at_least_as_accurate():
    for peer in peers.PEERS:
        if peer.ours is None:
            for published in peer.published:
                name = peers.counterpart(peer, published)
                assert name is not None
                number = int(name[-1])
                top1s = [
                    catalogue.published(get_variant(f"efficientnet-x-b{i}"))[0].top1
                    for i in (number - 1, number)
                ]
                assert top1s[0] < published.top1 <= top1s[1]
    assert [
        peers.counterpart(peer, peer.published[0])
        for peer in (BY_NAME[f"efficientnet-b{i}"] for i in range(5))
    ] == [f"efficientnet-x-b{i}" for i in range(5)]
    names = [f"efficientnetv2-{name}" for name in ("b0", "b1", "b2", "b3", "s")]
    assert [
        peers.counterpart(BY_NAME[name], BY_NAME[name].published[0]) for name in names
    ] == [f"efficientnet-x-b{n}" for n in (1, 2, 3, 4, 6)]
    assert not any(BY_NAME[name].of_timm for name in names)
    assert peers.counterpart(RESNEST, Published(99.0, "", "")) is None


def test_rows_one_per_accuracy():
    found = peers.rows(
        [REGNET, peers.CONTROL],
        lambda peer, form: float(len(form)),
        lambda name, form: 5.0,
    )
    assert [(r.peer.name, r.published and r.published.top1, r.ours) for r in found] == [
        ("regnety_040", 79.4, "efficientnet-x-b1"),
        ("regnety_040", 80.0, "efficientnet-x-b2"),
        ("efficientnet_b0", None, "efficientnet-b0"),
    ]
    assert [r.ratio("as published") for r in found] == [2.0, 2.0, 2.0]
    assert found[2].ratio("rewritten stem") is None
    assert peers.summary(found) == {
        "RegNetY": {"rows": 2, "min": 2.0, "median": 2.0, "max": 2.0}
    }


def test_a_family_of_its_own():
    peer = BY_NAME["efficientnetv2-b0"]
    (found,) = peers.rows([peer], lambda *_: 5.0, lambda *_: 10.0)
    assert (found.ours, found.ratio("rewritten stem")) == ("efficientnet-x-b1", 0.5)
    assert list(peers.summary([found])) == ["EfficientNetV2"]


def test_table():
    theirs = {"as written": 54.647, "groups padded": 22.664}
    ours = {"as published": 18.161, "rewritten stem": None}
    head, line = headline.table([row(theirs, ours)]).splitlines()
    assert line.split() == [
        *("regnety_040", "224", "79.40", "efficientnet-x-b1", "79.40"),
        *("54.65", "22.66", "18.16", "-", "1.25", "-"),
    ]
    assert head.split()[-2:] == ["ratio", "rewritten"]


def pairs_of(family):
    return [
        (pair.peer.name, pair.published.top1, pair.ours)
        for pair in generations.pairs(peers.PEERS)
        if pair.peer.family == family
    ]


def test_an_efficientnet_stands_beside_three_of_its_number():
    found = [(theirs, ours) for theirs, _, ours in pairs_of("efficientnet")]
    assert found == [
        ("efficientnet-b0", "efficientnet-x-b0"),  # which that of X-TPU is, too
        *(
            (f"efficientnet-b{number}", f"efficientnet-{family}-b{number}")
            for number in range(1, 5)
            for family in ("x", "x-tpu", "x-gpu")
        ),
    ]


def test_a_v2_of_a_pair_is_more_accurate():
    assert pairs_of("efficientnetv2") == [
        ("efficientnetv2-b0", 78.7, "efficientnet-x-b0"),
        ("efficientnetv2-b1", 79.8, "efficientnet-x-b1"),
        ("efficientnetv2-b2", 80.5, "efficientnet-x-b2"),
        ("efficientnetv2-b3", 82.1, "efficientnet-x-b3"),
        ("efficientnetv2-s", 83.9, "efficientnet-x-b4"),
    ]


def test_the_others_stand_beside_as_accurate_ones_up_to_b4():
    assert [(theirs, ours) for theirs, _, ours in pairs_of("regnety")] == [
        ("regnety_040", "efficientnet-x-b1"),
        ("regnety_040", "efficientnet-x-b2"),
        ("regnety_080", "efficientnet-x-b2"),
        ("regnety_080", "efficientnet-x-b4"),
        ("regnety_160", "efficientnet-x-b3"),
        ("regnety_160", "efficientnet-x-b4"),
    ]
    assert pairs_of("resnest") == [
        ("resnest50d", 81.04, "efficientnet-x-b3"),
        ("resnest101e", 82.83, "efficientnet-x-b4"),
    ]


V3, V6E = Topology("v3"), Topology("v6e")
WRITTEN, PADDED = peers.THEIR_FORMS


def test_a_pair_on_two_generations():
    pair = next(p for p in generations.pairs([REGNET]) if p.published.top1 == 79.4)
    known = {
        Job(V3, "regnety_040", WRITTEN, REGNET): 60.0,
        Job(V3, "regnety_040", PADDED, REGNET): 24.0,
        Job(V3, "efficientnet-x-b1", peers.AS_PUBLISHED): 16.0,
        Job(V6E, "regnety_040", PADDED, REGNET): 6.0,
        Job(V6E, "efficientnet-x-b1", peers.AS_PUBLISHED): 4.6487,
    }
    assert set(known) < {*pair.jobs(V3), *pair.jobs(V6E)}
    times = {"v3": Times(known, V3), "v6e": Times(known, V6E)}
    made = pair.as_json(times)
    assert made["theirs_ms"] == {"v3": 24.0, "v6e": None}  # as written may be faster
    assert made["ours_ms"] == {"v3": 16.0, "v6e": 4.649}
    assert made["ratio"] == {"v3": 1.5, "v6e": None}
    assert (made["theirs_family"], made["ours_family"]) == ("RegNetY", "X")
    head, line = headline.pairs_table([pair], times).splitlines()
    assert head.split() == ["theirs", "top-1", "ours", "top-1", "v3", "v6e"]
    assert line.split() == [
        *("regnety_040", "79.40", "efficientnet-x-b1", "79.40"),
        *("24.00", ":", "16.00", "=", "1.50", "-", ":", "4.65", "=", "-"),
    ]


def test_of_x_tpu_no_accuracy_is_known():
    (pair,) = (
        pair
        for pair in generations.pairs(peers.PEERS)
        if pair.ours == "efficientnet-x-tpu-b3"
    )
    made = pair.as_json({})
    assert (made["theirs"], made["ours_published"]) == ("efficientnet-b3", None)
    assert made["ours_family"] == "X-TPU"


def test_what_costs_least_is_compiled_first():
    comparison = headline.Comparison(list(peers.PEERS), [V3, V6E, Topology("v5e")])
    jobs = comparison.jobs
    assert len(set(jobs)) == len(jobs)
    timms = [job.peer is not None for job in jobs]
    assert timms == sorted(timms)
    ours = [job for job in jobs if job.peer is None]
    assert list(dict.fromkeys(job.topology.name for job in ours)) == [
        "v3",
        "v5e",
        "v6e",
    ]
    assert [job.name for job in ours if job.topology == V6E][:2] == [
        "efficientnet-b0",
        "efficientnet-b1",
    ]
    # Other forms, and what is beyond B4, are of the first topology alone.
    other = {job.topology for job in ours if job.form != peers.AS_PUBLISHED}
    beyond = {
        job.topology for job in jobs if job.name in ("resnest200e", "efficientnet_b0")
    }
    assert (other, beyond) == ({V3}, {V3})
    networks = {job.name for job in ours if job.topology == V6E}
    assert len(networks) == 5 + 5 + 4 + 4 + 5
    assert [str(job) for job in jobs if job.peer and job.topology == V6E] == [
        "v6e: regnety_040, as written",
        "v6e: regnety_040, groups padded",
        "v6e: resnest50d, as written",
        "v6e: regnety_080, as written",
        "v6e: regnety_080, groups padded",
        "v6e: resnest101e, as written",
        "v6e: regnety_160, as written",
        "v6e: regnety_160, groups padded",
    ]


@pytest.fixture
def compiled(monkeypatch):
    """Milliseconds by network and stem; what was asked comes in order."""
    asked = []
    milliseconds = {"efficientnet-b0": 16.0, "efficientnet-x-b0": 10.0}

    def whole(name, compiler, topology, *, batch, dtype, **form):
        asked.append((name, str(topology), batch, dtype, form))
        if form:
            raise CompilerError("out of time")
        return FakeReport(milliseconds[name])

    class Compiler:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(estimates, "network_latency", whole)
    monkeypatch.setattr(headline, "Compiler", Compiler)
    environment = types.SimpleNamespace(versions={"libtpu": "1"})
    monkeypatch.setattr(headline, "environment", lambda: environment)
    return asked


def test_command(compiled, capsys):
    flags = ["--peers=efficientnet-b0", "--topologies=v4,v3", "--batch=8"]
    assert headline.main(flags) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert "-: v4: efficientnet-x-b0, rewritten stem: out of time" in lines
    report = json.loads(last)
    (only,) = report["rows"]
    assert only["theirs"] == "efficientnet-b0"
    assert only["theirs_published"]["top1"] == 77.1
    assert only["ratio"] == {"as published": 1.6, "rewritten stem": None}
    assert report["summary"]["EfficientNet"]["max"] == 1.6
    assert [pair["ratio"] for pair in report["pairs"]] == [{"v4": 1.6, "v3": 1.6}]
    assert report["not_compiled"] == {
        "v4: efficientnet-x-b0, rewritten stem": "out of time"
    }
    assert report["missing"] == []
    assert report["estimates"][0] == {
        "topology": "v3",
        "network": "efficientnet-b0",
        "form": "as published",
        "milliseconds": 16.0,
    }
    assert report["settings"]["topology"] == "v4"
    assert report["settings"]["topologies"] == ["v4", "v3"]
    assert report["compiler"] == {"libtpu": "1"}
    assert set(report["versions"]) == {"tensorflow", "keras"}
    assert "resnest50d" in report["not_asked_for"]
    stem = {"stem_block_size": 4, "input_layout": "HWCN"}
    assert compiled == [
        ("efficientnet-b0", "v3", 8, "bfloat16", {}),
        ("efficientnet-x-b0", "v3", 8, "bfloat16", {}),
        ("efficientnet-b0", "v4", 8, "bfloat16", {}),
        ("efficientnet-x-b0", "v4", 8, "bfloat16", {}),
        ("efficientnet-x-b0", "v4", 8, "bfloat16", stem),
    ]


def test_all_compile(compiled, capsys, monkeypatch):
    monkeypatch.setattr(estimates, "network_latency", lambda *_, **__: FakeReport(10.0))
    flags = ["--peers= efficientnet-b1, efficientnet-b0,", "--topology=v3:4x4,v3"]
    assert headline.main(flags) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert not any(line.startswith("-") for line in lines)
    report = json.loads(last)
    rows = [one["theirs"] for one in report["rows"]]
    assert rows == ["efficientnet-b0", "efficientnet-b1"]
    assert report["settings"]["topologies"] == ["v3"]


def test_families_by_name(compiled, capsys, monkeypatch):
    monkeypatch.setattr(estimates, "network_latency", lambda *_, **__: FakeReport(10.0))
    flags = ["--peers=efficientnet,efficientnetv2-s", "--topologies=v3"]
    assert headline.main(flags) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    left = report["not_asked_for"]
    assert "efficientnetv2-b0" in left
    assert "efficientnet_b0" in left  # the control is timm's
    assert not any(name.startswith("efficientnet-") for name in left)


class Killed(BaseException):
    """As a signal ends a process, so far as a test can have it."""


FLAGS = ["--peers=efficientnet-b0", "--topologies=v3"]


@pytest.fixture
def stops(compiled, monkeypatch):
    """Make the next run end after some networks."""

    def after(count):
        reports = iter([FakeReport(16.0)] * count)

        def whole(*_, **__):
            report = next(reports, None)
            if report is None:
                raise Killed
            return report

        monkeypatch.setattr(estimates, "network_latency", whole)

    return after


def test_an_interrupted_run_leaves_what_it_has(stops, tmp_path, capsys):
    path = tmp_path / "tpu.headline.json"
    flags = [*FLAGS, f"--output={path}"]
    stops(1)
    with pytest.raises(Killed):
        headline.main(flags)
    report = results.load(path)
    assert [one["network"] for one in report["estimates"]] == ["efficientnet-b0"]
    assert report["missing"] == [
        "v3: efficientnet-x-b0, as published",
        "v3: efficientnet-x-b0, rewritten stem",
    ]
    assert [pair["ratio"] for pair in report["pairs"]] == [{"v3": None}]

    stops(2)
    with pytest.raises(Killed):
        headline.main(flags)
    longer = path.read_bytes()
    assert len(results.load(path)["missing"]) == 1

    stops(1)  # what was there is worth more
    with pytest.raises(Killed):
        headline.main(flags)
    assert path.read_bytes() == longer

    stops(3)
    assert headline.main(flags) == 0
    assert results.load(path)["missing"] == []
    assert "v3: efficientnet-x-b0, rewritten stem (3 of 3)" in capsys.readouterr().err


def test_a_file_with_more_estimates_stays_also_where_the_run_ends(
    compiled, stops, monkeypatch, tmp_path, capsys
):
    path = tmp_path / "tpu.headline.json"
    flags = [*FLAGS, f"--output={path}"]
    stops(3)
    assert headline.main(flags) == 0
    whole = path.read_bytes()

    def fails(*_, **__):
        raise CompilerError("out of time")

    monkeypatch.setattr(estimates, "network_latency", fails)
    assert headline.main(flags) == 1
    assert path.read_bytes() == whole
    assert f"{path} stays: it has 3 estimates, this 0" in capsys.readouterr().err


def test_a_network_of_timm_is_lowered_once(compiled, monkeypatch, capsys):
    lowered, asked = [], []

    def stablehlo(peer, form, batch):
        lowered.append((peer.name, form))
        return f"{peer.name}, {form}".encode()

    class Answer:
        def result(self):
            return FakeReport(24.0)

    def compile(self, module, topology, *, timeout_seconds, name):
        asked.append((module.decode(), str(topology)))
        return Answer()

    monkeypatch.setattr(headline.Compiler, "compile", compile, raising=False)
    monkeypatch.setattr(estimates, "stablehlo", stablehlo)
    monkeypatch.setattr(estimates, "network_latency", lambda *_, **__: FakeReport(16.0))
    monkeypatch.setattr(headline, "_packages", lambda asked: ("keras",))
    assert headline.main(["--peers=resnest", "--topologies=v3,v6e"]) == 0
    names = ["resnest50d", "resnest101e", "resnest200e"]
    assert lowered == [(name, "as written") for name in names]
    assert asked == [
        *((f"{name}, as written", "v3") for name in names),
        *((f"{name}, as written", "v6e") for name in names[:2]),
    ]
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [pair["ratio"]["v6e"] for pair in report["pairs"]] == [1.5, 1.5]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            PermissionError(13, "Permission denied", "/caches/lowered"),
            "error: cannot use /caches/lowered: Permission denied; free some space or "
            "mend the permissions\n",
        ),
        (
            OSError(28, "No space left on device"),
            "error: cannot use the cache: No space left on device; free some space or "
            "mend the permissions\n",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_a_line(
    compiled, monkeypatch, capsys, error, line
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(estimates, "network_latency", fail)
    assert headline.main(FLAGS) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors == f"v3: efficientnet-b0, as published (1 of 3)\n{line}"


def test_without_torch_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert headline.main(["--peers=resnest50d"]) == 2
    said = capsys.readouterr().err
    assert "does without) needs timm, torch, jax: make with-peers with-ben" in said


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--peers=resnest50", "no peer 'resnest50'"),
        ("--peers=,", "no name given"),
        ("--batch=0", "0 is not 1 or more"),
        ("--topologies=v3,v9", "unknown TPU topology 'v9'"),
    ],
)
def test_a_mistake_is_named(flag, said, compiled, capsys):
    assert status(headline.main, "--peers=efficientnet-b0", flag) == 2
    assert said in capsys.readouterr().err
    assert not compiled


NETWORK = ["regnety_040", "network.mlir", "--resolution=224"]


@pytest.mark.parametrize("flag", ["--batch=0", "--resolution=0"])
def test_a_network_of_nothing(flag, capsys):
    assert status(timm_stablehlo.main, *NETWORK, flag) == 2
    assert f"argument {flag[:-2]}: 0 is not 1 or more" in capsys.readouterr().err


def test_a_network_without_timm(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert timm_stablehlo.main(NETWORK) == 2
    error = "error: regnety_040 needs jax, timm, torch: make with-peers with-benchmarks"
    output, said = capsys.readouterr()
    assert output == ""
    assert said.startswith(error)


def test_a_network_that_cannot_be_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(timm_stablehlo, "_stablehlo", lambda *_, **__: "module {}")
    nowhere = tmp_path / "nowhere/network.mlir"
    assert timm_stablehlo.main(["regnety_040", str(nowhere), "--resolution=64"]) == 2
    error = f"there is no folder {nowhere.parent}; make it, or name another file"
    assert capsys.readouterr() == ("", f"error: {error}\n")
    written = ["regnety_040", str(tmp_path / "it"), "--resolution=64"]
    assert timm_stablehlo.main(written) == 0
    assert (tmp_path / "it").read_text() == "module {}"
    assert timm_stablehlo.main(written) == 2  # it may be anybody's
    assert capsys.readouterr().err == f"error: {tmp_path}/it {NOT_OURS}\n"
    assert (tmp_path / "it").read_text() == "module {}"


@pytest.mark.peers
@needs_timm
@pytest.mark.parametrize(
    ("network", "flags", "said"),
    [
        ("regnety_04", (), "timm has no such network; nearest: regnety_004"),
        ("regnetx_004", ("--pad_groups",), "only RegNets with squeeze-and-excite"),
        ("convnext_atto", (), "in terms of jax"),
    ],
)
def test_a_network_that_is_not_for_this(network, flags, said, tmp_path):
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.support.timm_stablehlo",
    ]
    output = tmp_path / "network.mlir"
    done = subprocess.run(
        [*command, network, str(output), "--resolution=64", "--batch=1", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {network}: ")
    assert said in line
    assert not output.exists()


@pytest.mark.peers
@needs_timm
@pytest.mark.parametrize("network", ["regnety_040", "regnety_080", "resnest50d"])
def test_every_form_gives_timms_logits(network, tmp_path):
    path = tmp_path / "logits.npz"
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.timm_process"]
    subprocess.run([*command, network, "64", str(path)], check=True)
    with np.load(path) as arrays:
        results = dict(arrays)
    kernels, expected = results.pop("padded kernels", None), results.pop("torch")
    assert expected.std() > 0.1
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    # Libraries add in orders of their own: float32 rounds at each product of a logit.
    noise = 2**-24 * np.sqrt(results.pop("terms")) * np.abs(expected).max()
    for logits in results.values():
        np.testing.assert_allclose(logits, expected, rtol=0, atol=4 * noise)
    if network == "regnety_080":  # groups of 56 channels: 3, 8, 16 and 36
        expected_kernels = [(2, 256), (4, 512), (8, 1024), (18, 2304)]
        assert kernels.tolist() == [[g, c, 128] for g, c in expected_kernels]


@pytest.mark.peers
@needs_timm
@pytest.mark.parametrize("form", peers.THEIR_FORMS)
def test_stablehlo_has_no_weights(form):
    text = estimates.stablehlo(REGNET, form, batch=2).decode()
    groups = {"as written": 17, "groups padded": 9}[form]
    assert f"feature_group_count = {groups} " in text
    assert "tensor<2x3x224x224xbf16>" in text
    assert "dense_resource" not in text
    assert len(text) < 500_000  # of 20 million weights none is there


@pytest.mark.peers
@needs_timm
def test_a_network_that_cannot_be_written_is_named():
    peer = peers.Peer(name="resnest50d", resolution=224, published=())
    with pytest.raises(UserError, match=r"resnest50d.*only RegNets"):
        estimates.stablehlo(peer, "groups padded", batch=1)
