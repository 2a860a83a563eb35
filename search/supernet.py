"""One network that contains every network of a space, for searching by training it.

    from __gin__ import dynamic_registration
    from search import spaces, supernet
    from train import experiment

    experiment.Experiment.build_model = @supernet.build_model
    supernet.build_model:
      space = @spaces.blocks()
      num_classes = None

It is a model of Keras as `models.build_model` makes one, from pixels to logits. Which
of its networks it computes says a selection, see `search.supernets.selection`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras

from common import checks
from common.checks import Rule, optional
from common.errors import UserError
from models import scaling
from models.batch_norm import MeanReducer
from models.blocks import run_chain
from models.efficientnet_x import StemForm, classifier_layers, head_layers
from models.initializers import derive_seed
from models.input_form import InputForm
from models.layers import Dropout, SeedGeneratorMaker
from search.networks.space import Space
from search.supernets.blocks import SupernetBlock
from search.supernets.counts import Chain, plan
from search.supernets.fields import Fields
from search.supernets.layers import Choices, SupernetMaker
from search.supernets.reading import SectionMix
from search.supernets.selection import Selection

_CHOICES = "choices"


@checks.rules(
    space=Rule(
        lambda value: isinstance(value, Space),
        "a space, as @spaces.blocks() with the parentheses",
    ),
    num_classes=optional(checks.whole(1, 10**6)),
    survival_prob=checks.number(lambda x: 0 < x <= 1, "above 0 and up to 1"),
)
def build_model(
    space: Space,
    num_classes: int | None = 1000,
    *,
    survival_prob: float = 1.0,
    dtype: str | keras.dtype_policies.DTypePolicy | None = None,
    seed: int = 0,
    make_seed_generator: SeedGeneratorMaker = keras.random.SeedGenerator,
    reduce_mean: MeanReducer | None = None,
) -> keras.Model:
    """Build the supernet of a space.

    Fixed to a network it computes what `models.build_model(space.build(network))` does
    with the same weights and the batch's statistics, which it uses in evaluation, too:
    moving statistics of a mixture of networks would be of none.

    Args:
      space: of networks that differ in what one can contain: kernel sizes, fused or
        not, expansions, filters, repeats, squeeze-and-excite, activations, skips,
        space-to-batch of stages, and space-to-depth sections of the network.
      num_classes: number of logits; in a config, None is as many as the data have
        classes.
      survival_prob: of stochastic depth, in (0, 1]; block i of the N that a network has
        survives with 1 - (1 - survival_prob) * i / N.
      dtype: see `models.build_model`, as of the next three.
      seed: of the initial weights, and of the random layers.
      make_seed_generator: of the random layers.
      reduce_mean: of batch norm in training; in evaluation each replica has its own
        statistics.

    Returns:
      A model from "pixels" [batch, resolution, resolution, 3] in 0..255 to float32
      logits [batch, num_classes]. Its layer "choices" holds the selection, to begin
      with the largest network of the first operations: see `choices_of`.

    Raises:
      UserError: the networks differ in what one cannot contain; says what to do.
    """
    if num_classes is None:
        raise UserError(
            "num_classes = None is for the config of a run, which has data to count "
            "the classes of: give a number"
        )
    fields, selection = Fields(space), Selection(space)
    variant, planned = fields.base, plan(fields, space.name)
    make = SupernetMaker(
        seed=seed,
        dtype=keras.dtype_policies.get(dtype),
        padding=scaling.block_specs(variant)[0].padding,
        batch_norm={
            "epsilon": variant.batch_norm_epsilon,
            "reduce_mean": reduce_mean,
        },
    )
    blocks = functools.partial(
        SupernetBlock,
        fields=fields,
        selection=selection,
        survival_prob=survival_prob,
        make_seed_generator=make_seed_generator,
    )
    dropout = Dropout(
        variant.dropout_rate,
        seed=derive_seed(seed, "dropout"),
        make_seed_generator=make_seed_generator,
        dtype=make.dtype,
        name="dropout",
    )
    initial = selection.of(selection.network(selection.warm_up()))
    pixels = InputForm(variant.resolution, 1, "NHWC").pixels()
    chosen = Choices(initial, name=_CHOICES)(pixels)
    x = run_chain(StemForm(1, "device", "NHWC").stem(make, variant), pixels)
    x = _run(planned.before, x, chosen, make, blocks)
    if planned.sections:
        forms = [_run(one, x, chosen, make, blocks) for one in planned.sections]
        x = SectionMix(fields, selection, dtype=make.dtype, name="sections")(
            forms, chosen
        )
    x = _run(planned.behind, x, chosen, make, blocks)
    ends = [*head_layers(make, variant), dropout, *classifier_layers(make, num_classes)]
    name = f"supernet-{space.fingerprint[:8]}"
    return keras.Model(pixels, run_chain(ends, x), name=name)


def choices_of(model: keras.Model) -> Choices:
    """Return the layer that holds a supernet's selection.

    Raises:
      UserError: the model is no supernet.
    """
    for layer in model.layers:
        if isinstance(layer, Choices):
            return layer
    raise UserError(
        f"{model.name} is no supernet: bind Experiment.build_model = "
        "@supernet.build_model"
    )


def _run(
    chain: Chain,
    x: Any,
    chosen: Any,
    make: SupernetMaker,
    block: Callable[..., SupernetBlock],
) -> Any:
    """Run the blocks of a chain."""
    for slot in chain.slots:
        name = slot.name(chain.name)
        own = dataclasses.replace(make, seed=derive_seed(make.seed, name))
        x = block(slot, make=own, name=name)(x, chosen)
    return x
