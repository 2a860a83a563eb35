"""Top-1 predicted from published rows."""

import dataclasses
import json
import pickle
import time

import numpy as np
import pytest

from common.errors import UserError
from models.scaling import block_specs
from models.variants import VARIANTS, change
from search import surrogate
from search.accuracies import (
    error_forms,
    published,
    suggestion_table,
    surrogate_report,
)
from search.accuracies.prediction import RESAMPLES, Paired, Surrogate, Table, Trust
from search.networks.scaled import scaled_network
from tests.support.commands import status

B0, B3, B4 = (VARIANTS[f"efficientnet-x-b{n}"] for n in (0, 3, 4))
HEAD = "family,name,width,resolution,blocks,top1,source\n"


@pytest.fixture(scope="module")
def fitted():
    return Surrogate()


def x(blocks=16, width=1.0, resolution=224):
    """X-B0 scaled; of 16 blocks times a whole number."""
    return dataclasses.replace(
        B0,
        depth_coefficient=blocks / 16,
        width_coefficient=width,
        resolution=resolution,
    )


@pytest.mark.parametrize("form", error_forms.FORMS)
def test_a_form_is_one_at_the_base_and_never_rises(form):
    count = len(error_forms._START[form])
    parameters = np.random.default_rng(0).normal(size=(50, count)) * 2
    base = np.array([[1.0, 1, 1]])
    assert np.allclose(error_forms.relative_error(form, parameters, base), 1)
    sizes = np.random.default_rng(1).uniform(0.5, 4, size=(40, 3))
    here = error_forms.relative_error(form, parameters, sizes)
    for axis in np.eye(3):
        larger = error_forms.relative_error(form, parameters, sizes * (1 + axis))
        assert (larger <= here + 1e-12).all()


@pytest.mark.parametrize("form", error_forms.FORMS)
def test_a_planted_form_is_found(form):
    """Rows that obey the form are met, whatever their families' scales."""
    rng = np.random.default_rng(0)
    true = np.array(error_forms._START[form]) * 1.3
    sizes = rng.uniform(0.6, 4, size=(60, 3))
    family = np.repeat(np.arange(4), 15)
    scales = np.array([15.0, 20, 25, 30])
    errors = scales[family] * error_forms.relative_error(form, true, sizes)[0]
    found = error_forms.fit(form, sizes, errors, family, np.ones(60))
    shape = error_forms.relative_error(form, found, sizes)[0]
    at = [
        error_forms.scale(form, found, sizes[family == i], errors[family == i])
        for i in range(4)
    ]
    off = np.log(np.array(at)[family] * shape / errors)
    # At the truth the fit pays for its pull alone, so it pays no more where it ends.
    most = error_forms._PULL * np.linalg.norm(true - error_forms._START[form])
    assert np.sqrt((off**2).sum()) <= most


def test_samples_are_one_of_each_form_and_resample(fitted):
    score = fitted(B3)
    assert len(score.samples) == 3 * RESAMPLES
    assert (score.source, score.reason) == ("predicted", "")
    low, high = score.spread
    assert low < score.top1 < high
    sizes = fitted.sizes([B3])
    assert np.allclose(score.samples, fitted.predict(sizes)[:, 0], rtol=0, atol=5e-5)
    # Each form's samples lie about its fit to all rows, form by form.
    for number, (form, value) in enumerate(fitted.plain(sizes).items()):
        own = score.samples[number * 40 : (number + 1) * 40]
        assert form == error_forms.SATURATING[number]
        assert min(own) < value[0] < max(own)


@pytest.mark.long
def test_the_same_again_and_another_seed(fitted):
    assert Surrogate()(B4) == fitted(B4)
    assert Surrogate(seed=1)(B4).samples != fitted(B4).samples
    assert pickle.loads(pickle.dumps(fitted))(B4) == fitted(B4)


def test_published_rows_are_met_within_the_honest_error(fitted):
    names = [f"efficientnet-b{n}" for n in range(8)]
    read = (77.11, 79.13, 80.07, 81.59, 82.89, 83.6, 83.95, 84.26)
    predicted = np.median(fitted.predict(fitted.sizes([VARIANTS[n] for n in names])), 0)
    off = predicted - read
    assert np.sqrt((off**2).mean()) < 0.6
    assert np.abs(off).max() < 1.2  # B0: 78.2 for 77.1


def test_left_out_families_are_told_to_about_a_point():
    rows = published.fitted(published.read())
    for form in error_forms.FORMS:
        errors = surrogate_report.left_out(rows, form)
        assert len(errors) == 19
        assert 0.9 < surrogate_report._rms(errors.values()) < 1.1
        together = surrogate_report.left_out(rows, form, together=True)
        assert 0.9 < surrogate_report._rms(together.values()) < 1.1


def test_single_axes_reject_the_form_that_does_not_saturate():
    rows = published.fitted(published.read())
    of = {form: surrogate_report.left_out(rows, form) for form in error_forms.FORMS}
    for axes in ("efficientnet-axes", "resnet-axes"):
        rms = {
            form: surrogate_report._rms([errors[axes]]) for form, errors in of.items()
        }
        assert rms["power"] > 1.1
        assert max(rms[form] for form in error_forms.SATURATING) < 0.8


def test_recalled_rows_change_a_prediction_by_little(fitted):
    with_recalled = Surrogate(recalled=True)
    assert fitted.scale_family == "efficientnet-aa"
    assert with_recalled.scale_family == "efficientnet-x"
    for variant, most in ((B0, 0.15), (B3, 0.3), (B4, 0.3)):
        assert 0 < with_recalled(variant).top1 - fitted(variant).top1 < most
    one, other = with_recalled.paired(B4, B0), fitted.paired(B4, B0)
    assert one.median == pytest.approx(other.median, abs=0.25)


def test_speed(fitted):
    sizes = np.random.default_rng(0).uniform(1, 2, size=(20_000, 3))
    began = time.process_time()
    assert fitted.predict(sizes).shape == (120, 20_000)
    assert time.process_time() - began < 2


def test_sizes_may_have_further_columns(fitted):
    sizes = np.array([[2, 1.4, 1.5, 9, 9]])
    assert (fitted.predict(sizes) == fitted.predict(sizes[:, :3])).all()


def test_a_pair_is_told_apart_better_than_either_is_known(fitted):
    paired = fitted.paired(B4, B3)
    assert paired.low < paired.median < paired.high
    assert paired.above_zero == 1
    back = fitted.paired(B3, B4)
    assert np.allclose(
        [back.low, back.median, back.high], [-paired.high, -paired.median, -paired.low]
    )
    assert back.above_zero == 0
    of_b4, of_b3 = fitted(B4).spread, fitted(B3).spread
    assert paired.high - paired.low < of_b4[1] - of_b3[0] - (of_b4[0] - of_b3[1])
    assert str(Paired(0.314, 0.2, 0.46, 0.983)) == (
        "+0.31 (+0.20 to +0.46), above zero in 98%"
    )


def test_equal_networks_are_equal(fitted):
    same = dataclasses.replace(B3, depth_coefficient=1.39)  # as many blocks
    assert fitted.paired(B3, same) == Paired(0, 0, 0, 0)


def test_what_it_does_not_see_is_said(fitted):
    changed = change(B3, stages={4: {"kernel_size": 5, "fused": True}})
    score = fitted(changed)
    assert score.samples == fitted(B3).samples
    assert score.source == "predicted, blind to kernel_size, fused"


@pytest.mark.parametrize(
    ("variant", "why"),
    [
        (x(80), "blocks over the base's 5, trusted from 0.6 to 4"),
        (x(width=3.0), "width 3, trusted from 0.5 to 2"),
        (x(resolution=640), "pixels 640, trusted from 160 to 600"),
        (x(resolution=128), "pixels 128, trusted from 160 to 600"),
    ],
)
def test_outside_of_the_rows_there_is_no_prediction(fitted, variant, why):
    score = fitted(variant)
    assert score.samples == ()
    assert why in score.reason
    free = Surrogate(trust=None, resamples=2)(variant)
    assert len(free.samples) == 6
    assert free.source == f"predicted, extrapolated: {why}"


def test_the_edge_is_inside(fitted):
    for variant in (x(64, 2.0, 600), x(64, 1.0, 160)):
        assert fitted(variant).samples
    sizes = fitted.sizes([x(64, 2.0, 600), x(80)])
    assert Trust().inside(sizes).tolist() == [True, False]


def test_within_the_trust_region_top1_is_a_share(fitted):
    low, high = Trust()._bounds()
    sizes = np.random.default_rng(0).uniform(low, high, size=(2000, 3))
    predictions = fitted.predict(np.concatenate([sizes, [low, high]]))
    assert 50 < predictions.min() < predictions.max() < 95


def test_another_family():
    v2 = Surrogate(family="v2")
    assert (v2.family, v2.base.name) == ("efficientnetv2-b", "efficientnetv2-b0")
    read = {"b0": 78.7, "b1": 79.8, "b2": 80.5, "b3": 82.1}
    for name, top1 in read.items():
        assert v2(VARIANTS[f"efficientnetv2-{name}"]).top1 == pytest.approx(
            top1, abs=0.5
        )
    # S is no scaled B: it was not fitted, and is a point better than predicted.
    assert v2(VARIANTS["efficientnetv2-s"]).top1 == pytest.approx(83.9, abs=1.2)


@pytest.mark.long
def test_own_rows_are_fitted(tmp_path, fitted):
    path = tmp_path / "mine.csv"
    rows = [("x-b0", 1.0, 224, 16, 70.0), ("x-b3", 1.2, 300, 26, 75.0)]
    path.write_text(
        HEAD
        + "".join(f"efficientnet-x,{n},{w},{r},{b},{t},me\n" for n, w, r, b, t in rows)
    )
    own = Surrogate(rows=str(path))
    assert own.scale_family == "efficientnet-x"
    assert len(own.rows) == len(fitted.rows) + 2
    assert own(B0).top1 == pytest.approx(70.0, abs=1)
    mine = tmp_path / "family.csv"
    mine.write_text(HEAD + "mine,one,1.0,224,16,60.0,me\n")
    assert Surrogate(family="mine", rows=str(mine))(B0).top1 == pytest.approx(
        60, abs=0.1
    )


OWN = HEAD.replace("top1,", "top1,status,")
LEFT_OUT = (
    "mine,a,1.0,96,16,60,read,me\n"
    "mine,b,0.4,224,16,60,read,me\n"
    "mine,c,1,224,16,61,recalled,me\n"
    "mine,d,1,224,,62,read,me\n"
)
FITTED = "efficientnet-x,x-b0,1,224,16,70,read,me\n"
WHY = [
    "line 2: 96 px are below 128",
    "line 3: width 0.4 is below 0.5",
    "line 4: recalled: fitted only with --recalled, in gin recalled = True",
    "line 5: blocks empty",
]


@pytest.mark.long
def test_own_rows_that_are_left_out_are_told(tmp_path, capsys):
    path = tmp_path / "mine.csv"
    path.write_text(OWN + LEFT_OUT + FITTED)
    own = Surrogate(rows=str(path))
    assert (len(own.own), len(own.rows)) == (5, 118)
    assert [f"{row.place}: {why}" for row, why in own.left_out] == [
        f"{path}, {why}" for why in WHY
    ]
    assert status(surrogate.main, f"--rows={path}", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    rows = report["rows"]
    assert (rows["own"], rows["own_read"], rows["recalled"]) == (1, 5, 10)
    assert [f"{one['place']}: {one['reason']}" for one in rows["own_left_out"]] == [
        f"{path}, {why}" for why in WHY
    ]
    said = " ".join("\n".join(surrogate_report.lines(report)).split())
    assert "118 rows of 22 families are fitted, 1 of them yours;" in said
    assert "1 of the 5 rows of your file are fitted; not: - " in said
    assert all(why in said for why in WHY)
    # The scale is of the row of one's own, so it is not said to be missing.
    assert "EfficientNet-X's own scale" not in said
    assert "accuracies that are recalled, EfficientNet-X's among them: not" in said


@pytest.mark.parametrize(
    ("text", "family", "messages"),
    [
        ("", "x", ["mine.csv has no row to fit"]),
        (LEFT_OUT, "x", ["mine.csv has no row to fit (", *WHY]),
        (LEFT_OUT, "mine", ["mine.csv has no row to fit (", *WHY]),
        (LEFT_OUT + FITTED, "mine", ["no row of family 'mine' is fitted (", *WHY]),
        (FITTED, "efficientnet-ra", ["'efficientnet-ra' is fitted (", "line 16: rec"]),
        (
            "".join(f"mine,{n},0.4,224,16,60,read,me\n" for n in range(7)),
            "mine",
            ["line 2: width 0.4", "line 6: width 0.4 is below 0.5; and 2 more)"],
        ),
    ],
)
def test_where_no_own_row_is_fitted(tmp_path, capsys, text, family, messages):
    (tmp_path / "mine.csv").write_text(OWN + text)
    flags = f"--rows={tmp_path}/mine.csv", f"--family={family}"
    assert status(surrogate.main, *flags) == 2
    said = capsys.readouterr().err
    assert all(message in said for message in messages)
    assert "Traceback" not in said
    assert "line 7" not in said


def test_recalled_rows_of_one_s_own_are_fitted_if_asked_for(tmp_path):
    (tmp_path / "mine.csv").write_text(OWN + LEFT_OUT)
    rows = str(tmp_path / "mine.csv")
    own = Surrogate(rows=rows, family="mine", recalled=True, resamples=2)
    assert own.scale_family == "mine"
    assert [row.name for row, _ in own.left_out] == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "efficientnet-y"}, "nearest: efficientnet-x"),
        ({"family": "mobilenet-v2"}, "no family 'mobilenet-v2' whose networks"),
        ({"forms": ()}, "one or more of additive"),
        ({"forms": ["cubic"]}, "one or more of additive"),
        ({"resamples": 0}, "1 or more"),
        ({"rows": "none.csv"}, "none.csv: No such file"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message):
        Surrogate(**settings)


def test_the_scale_s_family_is_in_every_resample():
    table = Table(published.fitted(published.read()))
    draws = table.draws(30, 0, keep="efficientnet-aa")
    own = table.family == table.families.index("efficientnet-aa")
    assert (draws[0] == 1).all()
    assert all((weights[own] == 1).all() for weights in draws)
    assert any((weights == 0).any() for weights in draws[1:])


@pytest.mark.long
def test_the_command(capsys):
    assert status(surrogate.main, "--json", "--suggest=2") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rows"]["fitted"] == 117
    assert list(report["forms"]) == list(error_forms.FORMS)
    assert [form["used"] for form in report["forms"].values()] == [True] * 3 + [False]
    assert report["open"]["rows_say"] == {
        "efficientnet-axes": 0.1,
        "mobilenet-v2-axes": 0.4,
        "resnet-axes": 0.4,
    }
    assert [one["name"] for one in report["suggestions"]] == [
        "efficientnet-x-b0:2.0:1.0:192",
        "efficientnet-x-b0:1.2:1.0:320",
    ]
    assert report["rows"]["too_few"] == ["mobilenet-v3-large", "mobilenet-v3-small"]
    said = "\n".join(surrogate_report.lines(report))
    assert "117 rows of 21 families are fitted; left out: 10 recalled" in said
    said = " ".join(said.split())
    assert "the rows have +0.1, +0.4, +0.4" in said
    assert "EfficientNet-X's own scale" in said
    assert (
        "`power` is further off than any other form on efficientnet-axes, "
        "mobilenet-v1-axes, resnet-axes; nearer than any other on mobilenet-v2-axes. "
    ) in said
    assert (
        "with fewer than 3 rows fitted: mobilenet-v3-large, mobilenet-v3-small." in said
    )
    # 21 families are those of the table and those that it says to leave out.
    assert len(report["forms"]["additive"]["families"]) == 19


def test_power_is_told_by_the_table():
    forms = {
        "additive": {"used": True, "axes": {"a": 0.5, "b": 2.0, "c": 0.5}},
        "product": {"used": True, "axes": {"a": 0.6, "b": 1.5, "c": 1.0}},
        "power": {"used": False, "axes": {"a": 0.7, "b": 1.4, "c": 0.7}},
    }
    assert surrogate_report._about_power(forms) == (
        "`power` is further off than any other form on a; nearer than any other on b; "
        "between the others on c. It never saturates and is not used."
    )


@pytest.mark.parametrize("family", ["x", "v2", "lite"])
def test_a_suggestion_is_a_network_of_the_sizes_that_it_says(family):
    fitted = Surrogate(family=family, resamples=5)
    found = suggestion_table.make(fitted, 400, [])
    assert 300 < len(found) == len({one["name"] for one in found})
    for one in found:
        variant = scaled_network(one["name"])
        assert len(block_specs(variant)) == one["blocks"]
        assert variant.resolution == one["resolution"]
        assert fitted(variant).samples  # is trusted
        assert variant.name.startswith(f"{fitted.base.name}:")


def test_suggestions_of_named_networks(capsys):
    names = ["efficientnet-x-b0:1.2:1.5:256", "efficientnet-x-b1"]
    flags = "--json", "--suggest=2", f"--variants={','.join(names)}"
    assert status(surrogate.main, *flags, "--family=resnet-rs") == 0
    report = json.loads(capsys.readouterr().out)
    assert sorted(one["name"] for one in report["suggestions"]) == names
    said = surrogate_report.lines(report)
    assert any(line.startswith(f"{names[0]}      26   1.21     256") for line in said)
    assert "EfficientNet-X's own scale" not in "\n".join(said)


def test_the_command_refuses_what_it_does_not_know(tmp_path, capsys):
    (tmp_path / "bad.csv").write_text(HEAD + "mine,a,1,224,16,1000,me\n")
    assert status(surrogate.main, f"--rows={tmp_path}/bad.csv") == 2
    assert "bad.csv, line 2: top1 is 1000" in capsys.readouterr().err
    assert status(surrogate.main, "--suggest=1", "--variants=efficientnet-x-b9") == 2
    assert "unknown variant 'efficientnet-x-b9'" in capsys.readouterr().err
