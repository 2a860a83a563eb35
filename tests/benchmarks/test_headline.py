import importlib.util
import json
import subprocess
import sys
import types

import numpy as np
import pytest

from benchmarks import headline, timm_stablehlo
from benchmarks.support import peers
from models import catalogue, get_variant
from models.catalogue import Published
from tests.support.commands import status
from tests.support.folders import NOT_OURS
from tpu_compiler import CompilerError

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

    monkeypatch.setattr(headline, "network_latency", whole)
    monkeypatch.setattr(headline, "Compiler", Compiler)
    environment = types.SimpleNamespace(versions={"libtpu": "1"})
    monkeypatch.setattr(headline, "environment", lambda: environment)
    return asked


def test_command(compiled, capsys):
    assert headline.main(["--peers=efficientnet-b0", "--topology=v4", "--batch=8"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert "-: efficientnet-x-b0, rewritten stem: out of time" in lines
    report = json.loads(last)
    (only,) = report["rows"]
    assert only["theirs"] == "efficientnet-b0"
    assert only["theirs_published"]["top1"] == 77.1
    assert only["ratio"] == {"as published": 1.6, "rewritten stem": None}
    assert report["summary"]["EfficientNet"]["max"] == 1.6
    assert report["not_compiled"] == {
        "efficientnet-x-b0, rewritten stem": "out of time"
    }
    assert report["compiler"] == {"libtpu": "1"}
    assert set(report["versions"]) == {"tensorflow", "keras"}
    assert "resnest50d" in report["not_asked_for"]
    stem = {"stem_block_size": 4, "input_layout": "HWCN"}
    assert compiled == [
        ("efficientnet-b0", "v4", 8, "bfloat16", {}),
        ("efficientnet-x-b0", "v4", 8, "bfloat16", {}),
        ("efficientnet-x-b0", "v4", 8, "bfloat16", stem),
    ]


def test_all_compile(compiled, capsys, monkeypatch):
    monkeypatch.setattr(headline, "network_latency", lambda *_, **__: FakeReport(10.0))
    assert headline.main(["--peers= efficientnet-b1, efficientnet-b0,"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert not any(line.startswith("-") for line in lines)
    rows = json.loads(last)["rows"]
    assert [one["theirs"] for one in rows] == ["efficientnet-b0", "efficientnet-b1"]


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

    monkeypatch.setattr(headline, "network_latency", fail)
    assert headline.main(["--peers=efficientnet-b0"]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors == f"compiling efficientnet-b0, as published\n{line}"


def test_without_torch_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert headline.main(["--peers=resnest50d"]) == 2
    said = capsys.readouterr().err
    assert "does without) needs timm, torch, jax: make with-benchmarks with-pe" in said


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--peers=resnest50", "no peer 'resnest50'"),
        ("--peers=,", "no name given"),
        ("--batch=0", "0 is not 1 or more"),
        ("--topology=v9", "unknown TPU topology 'v9'"),
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
    error = "error: regnety_040 needs jax, timm, torch: make with-benchmarks with-peers"
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
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.timm_stablehlo"]
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
    text = headline.stablehlo(REGNET, form, batch=2).decode()
    groups = {"as written": 17, "groups padded": 9}[form]
    assert f"feature_group_count = {groups} " in text
    assert "tensor<2x3x224x224xbf16>" in text
    assert "dense_resource" not in text
    assert len(text) < 500_000  # of 20 million weights none is there


@pytest.mark.peers
@needs_timm
def test_a_network_that_cannot_be_written_is_named():
    peer = peers.Peer(name="resnest50d", resolution=224, published=())
    with pytest.raises(headline.UserError, match=r"resnest50d.*only RegNets"):
        headline.stablehlo(peer, "groups padded", batch=1)
