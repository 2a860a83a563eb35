import dataclasses

import pytest

from common.errors import UserError
from docgen import tables
from docgen.docstrings import described, first_paragraph
from docgen.markdown import marked, sentence, table, three_digits


def cells(markdown):
    """Return the rows of the tables in a text, as lists of cells."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [line[2:-2].split(" | ") for line in lines]


def function(image, *, size: int, rate: float = 10 / 3, name=None, on=True):
    """Do something.

    In two paragraphs.

    Args:
      image: handed over.
      size: a number
        of pixels.
      rate: as in `x` or "y".
      name: of it.

    Returns:
      on: this is no argument.
    """


def test_docstrings():
    assert described(function) == {
        "image": "handed over.",
        "size": "a number of pixels.",
        "rate": 'as in `x` or "y".',
        "name": "of it.",
    }
    assert described(function, "Attributes") == {}
    assert first_paragraph("One\n  line.\n\n  More.") == "One line."


def test_markdown():
    assert table(("a", "b"), [("x|y", "1\n2")], right=" r").splitlines() == [
        "| a | b |",
        "| --- | ---: |",
        r"| x\|y | 1 2 |",
    ]
    numbers = 0.4349, 1.538, 10.49, 115.2, 1234.0, 0, None
    assert [three_digits(number) for number in numbers] == [
        *("0.435", "1.54", "10.5", "115", "1234", "0", "-")
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("see train.optimizer", "See `train.optimizer`."),
        ("n > 1 is more.", "n > 1 is more."),
        ("does it fit?", "Does it fit?"),
        (
            "by --a_flag, 'one_device', \"stop\" or `on_x`; the variant's, 'tis",
            "By `--a_flag`, `'one_device'`, `\"stop\"` or `on_x`; the variant's, 'tis.",
        ),
        ("as in {'stem': 0.1} or gs://", "As in `{'stem': 0.1}` or `gs://`."),
        ("1.5 and @module.function", "1.5 and `@module.function`."),
    ],
)
def test_code_in_docstrings_is_marked(text, said):
    assert sentence(text) == said
    assert marked(said) == said


def test_catalogue():
    text = tables.catalogue(["efficientnet-x-b0", "efficientnet-b5"])
    assert "**EfficientNet-X, the paper's main table**" in text
    assert cells(text)[2] == [
        *("`efficientnet-x-b0`", "224", "7.584", "0.920", "9.7", "16", "77.3 [1]")
    ]
    assert cells(text)[-1][-1] == "83.1 [2], 83.6 [3], 83.7 [4]"
    assert "- [3] README of tensorflow/tpu, models/official/efficientnet: Auto" in text


def test_every_variant_has_a_family():
    from models import VARIANTS

    rows = [row[0].strip("`") for row in cells(tables.catalogue()) if "`" in row[0]]
    assert sorted(rows) == sorted(VARIANTS)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("efficientnet-x-tpu-b0", "efficientnet-x-tpu"),
        ("efficientnet-lite4", "efficientnet-lite"),
        ("efficientnetv2-b3", "efficientnetv2"),
        ("efficientnetv2-xl", "efficientnetv2"),
        ("efficientnet-x-b3-timm", "timm"),
    ],
)
def test_families(name, family):
    assert tables._family(name) == family


def test_recipes():
    rows = {row[0]: row[1:] for row in cells(tables.recipes())}
    assert rows["`efficientnet-x-b0`"][:2] == ["10", "2,048"]
    assert rows["`efficientnet-b7`"][0] == "28"
    assert rows["`efficientnet-b7`"][2] == "84.3 [3], 84.7 [4]"


def test_every_setting_of_a_run():
    from train.experiment import Experiment

    rows = {row[0]: row[1:] for row in cells(tables.experiment())[2:]}
    assert [f"`{f.name}`" for f in dataclasses.fields(Experiment)] == list(rows)
    assert rows["`steps_per_loop`"] == [
        *("`100`", "a whole number from 1 to 2,147,483,647", "yes"),
        "Training steps between two looks of the host at the device.",
    ]
    assert rows["`global_batch_size`"][:3] == [
        "required",
        "a whole number from 1 to 1,048,576",
        "no",
    ]
    assert rows["`pretrained`"][2] == "by flag"
    assert rows["`learning_rate_factors`"][0] == "`{}`"


def test_every_field_of_a_job_file():
    rows = {row[0]: row[1:] for row in cells(tables.job_file())[2:]}
    assert rows["`machines.gpus.hosts`"][:2] == ["`1`", "an integer from 1 up to 64"]
    assert rows["`machines.capacity`"][:2] == [
        "`spot`",
        "`spot`, `on_demand`, `reservation`",
    ]
    assert rows["`budget.hours`"][:2] == ["required", "a number above 0 up to 8,760"]
    assert "`labels`" in rows


def test_settings_of_functions_without_what_is_handed_over():
    data = {row[0]: row[1] for row in cells(tables.function(DATA))[2:]}
    assert list(data)[:3] == ["`area_range`", "`aspect_ratio_range`", "`flip`"]
    assert data["`aspect_ratio_range`"] == "`(0.75, 1.333)`"
    assert not {"`seed`", "`data_dir`", "`batch_size`"} & data.keys()
    rows = cells(tables.BLOCKS["settings.randaugment.rand_augment"]())[2:]
    layers, magnitude, ops = rows
    assert layers == ["`num_layers`", "`2`", "RandAugment's N."]
    assert magnitude[0] == "`magnitude`"
    assert ops[0] == "`ops`"
    optimizers = tables.BLOCKS["settings.optimizer"]()
    assert "**`optimizer.lars`** Momentum for large batches; its rates" in optimizers
    assert "`learning_rate`" not in optimizers
    schedules = cells(tables.BLOCKS["settings.schedule"]())
    assert ["`decay_epochs`", "`2.4`", "Epochs from stair to stair."] in schedules
    assert "train_steps" not in str(schedules)


DATA = "input_pipeline.dataset.train_dataset"


def test_every_function_that_a_config_may_name_has_a_block():
    from train.settings.functions import FUNCTIONS

    elsewhere = {"models.variants", "train.experiment"}
    named = {f"{m}.{f}" for m in FUNCTIONS.keys() - elsewhere for f in FUNCTIONS[m]}
    modules = {f"{m}.{f}" for m in tables._MODULES for f in FUNCTIONS[m]}
    assert named == tables._FUNCTIONS.keys() | modules


def test_an_argument_without_a_word_is_refused():
    with pytest.raises(UserError, match=r"function: Args of its docstring .*'on'"):
        list(tables._settings(function, ""))


def test_fields():
    rows = {row[0]: row[1:] for row in cells(tables.stage_spec())[2:]}
    assert rows["`fused`"][0] == "`False`"
    assert rows["`strides`"] == ["required", "Of the first block; the others have 1."]
    progressive = cells(tables.progressive())
    assert progressive[2][:2] == ["`until_epoch`", "required"]
    assert progressive[3][:2] == ["`resolution`", "the recipe's"]
    # Not the recipe's: its schedule has a setting of the same name.
    assert progressive[-1][:2] == ["`warmup_epochs`", "none"]
    assert cells(tables.variant())[2][0] == "`name`"


def test_exit_statuses():
    rows = cells(tables.exit_statuses())[2:]
    assert [row[0] for row in rows] == ["0", "1", "2", "75", "130"]
    assert rows[3][1].startswith("The run stopped and can go on")


def test_commands():
    rows = dict(cells(tables.commands())[2:])
    names = list(rows)
    assert (
        rows["`python -m train.main`"]
        == "Train or score what gin files describe: the entry file."
    )
    assert "`python -m docgen.blocks`" in rows
    # What people use comes first.
    assert names[0] == "`python -m train.classify`"
    assert names[-1] == "`python -m docgen.site`"
