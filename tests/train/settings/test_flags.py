"""What a flag of another trainer is answered with, typed as it stands."""

import dataclasses
import shlex

import pytest

from common.project import ROOT
from tests.support.commands import status
from tests.support.runs import TINY
from train import config, main
from train.experiment import Experiment
from train.settings import flags

E = "experiment.Experiment"
MNIST = "gin_configs/runs/mnist_cpu.gin"


def error(arguments, capsys):
    assert status(main.main, "--model_dir=x", *arguments) == 2
    return capsys.readouterr().err.splitlines()[-1].partition(": error: ")[2]


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--epochs=5", f"write --gin_param={E}.epochs=5"),
        ("--epoch=5", f"write --gin_param={E}.epochs=5"),
        ("--data_dir=a b", f"write --gin_param=\"{E}.data_dir='a b'\""),
        ("--batch-size=64", f"write --gin_param={E}.global_batch_size=64"),
        ("--weight_decay=1e-4", f"write --gin_param={E}.weight_decay=1e-4"),
        ("--new_head=true", f"write --gin_param={E}.new_head=True"),
        (
            "--num_classes=4",
            "write --gin_param=efficientnet_x.build_model.num_classes=4",
        ),
        (
            "--lr=0.1",
            "write --gin_param=schedule.cosine.peak_per_256=0.1 (for a batch of 256)",
        ),
        (
            "--learning_rate=0.1",
            "write --gin_param=schedule.cosine.peak_per_256=0.1 (for a batch of 256)",
        ),
        (
            "--learning_rate=cosine",
            f"write --gin_param={E}.learning_rate=@schedule.cosine",
        ),
        ("--optimizer=adam", f"write --gin_param={E}.optimizer=@optimizer.adamw"),
        (
            "--drop_path=0.2",
            "write --gin_param=efficientnet_x.build_model.survival_prob=0.8",
        ),
        (
            "--survival_prob=0.8",  # the setting's own name: nothing is turned round
            "write --gin_param=efficientnet_x.build_model.survival_prob=0.8",
        ),
        (
            "--intended=large_batch",
            f"write --gin_param=\"{E}.intended=['large_batch']\"",
        ),
        ("--fp16", f"write --gin_param=\"{E}.precision='mixed_float16'\""),
        ("--amp=true", f"write --gin_param=\"{E}.precision='mixed_bfloat16'\""),
        ("--gpus=2", f"write --gin_param=\"{E}.strategy='mirrored'\""),
        ("--num_workers=4", "leave it out: the input pipeline uses all cores"),
        ("--patience=3", f"write --gin_param={E}.early_stopping_patience=3"),
        ("--Experiment.epochs=5", f"write --gin_param={E}.epochs=5"),
        (f"--{E}.epochs=5", f"write --gin_param={E}.epochs=5"),
        ("--Experiment.epoch=5", f"perhaps --gin_param={E}.epochs=5"),
        (
            "--efficientnet_x.build_model.num_classes=3",
            "write --gin_param=efficientnet_x.build_model.num_classes=3",
        ),
        (f"{E}.epochs=5", f"write --gin_param={E}.epochs=5"),
        ("\N{EN DASH}epochs=5", f"write --gin_param={E}.epochs=5"),
        (
            "--model=efficientnet-x-b0",
            "write --gin_file=gin_configs/models/efficientnet_x_b0.gin",
        ),
        (
            "--arch=tf_efficientnetv2_s",
            "write --gin_file=gin_configs/models/efficientnetv2_s.gin",
        ),
        ("--model=resnet50", "a model is --gin_file=gin_configs/models/NAME.gin"),
        ("--eval", "write --mode=eval"),
        ("--output_dir=y", "write --model_dir=y"),
        ("--resume", "leave it out: the same command goes on with its run"),
        ("--precission='float32'", f"perhaps --gin_param=\"{E}.precision='float32'\""),
        (
            "--model_dri=y",
            "nearest: --model_dir",
        ),
        ("--zzz", "a setting is --gin_param=MODULE.FUNCTION.NAME=VALUE"),
    ],
)
def test_a_flag_of_another_trainer(flag, hint, capsys):
    said = error([flag], capsys)
    assert said == f"unrecognized arguments: {flag}; {hint}"
    for written in shlex.split(hint):
        if "NAME" in written:
            continue
        if written.startswith("--gin_file="):
            assert (ROOT / written.removeprefix("--gin_file=")).is_file()
        elif written.startswith("--gin_param="):
            binding = written.removeprefix("--gin_param=")
            config.resolve([MNIST], [binding])


def test_several_flags_of_another_trainer(capsys):
    assert error(["--epochs", "5", "--lr=0.1"], capsys) == (
        "unrecognized arguments: --epochs 5 --lr=0.1; for --epochs write "
        f"--gin_param={E}.epochs=5; for --lr write "
        "--gin_param=schedule.cosine.peak_per_256=0.1 (for a batch of 256)"
    )


def test_words_of_other_trainers_lead_to_settings():
    known = {one for owners in flags._known().values() for one in owners}
    assert set(flags._SETTINGS.values()) <= known
    assert not set(flags._SETTINGS) & set(flags._known())
    handed_over = {
        name
        for field in dataclasses.fields(Experiment)
        for name in field.metadata.get("handed_over", ())
    }
    handed_over -= {"resolution"}  # which is the model's
    assert not {one.rpartition(".")[2] for one in known if E not in one} & handed_over


@pytest.mark.parametrize("text", ["a'b", 'a"b', "$HOME", "a b", "@x", "(1, 2)", "`x`"])
def test_what_a_shell_makes_of_a_binding(text):
    written = flags.explain("data_dir", text, ()).removeprefix("write ")
    (argument,) = shlex.split(written)
    _, _, binding = argument.partition("=")
    if text[0] in "@(":
        assert binding == f"{E}.data_dir={text}"
    else:
        assert config.resolve([TINY], [binding]).experiment.data_dir == text
