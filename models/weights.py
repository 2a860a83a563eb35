"""The weights of a model in the reference's order."""

from collections.abc import Iterator

import keras

from models.blocks import FusedMBConv, MBConv
from models.variants import require

# Attributes that hold a layer's weights, in the order in which the reference makes
# them; no layer has both a kernel and a gamma.
_ROLES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


def in_reference_order(model: keras.Model) -> list[keras.Variable]:
    """List a model's weights in the order of the reference's checkpoints.

    This is the order of the forward computation, with the moving statistics of a
    batch normalisation after its gamma and beta.

    Args:
        model: what `build_model` returned.

    Returns:
        All its weights, trainable or not; no state of random generators.

    Raises:
        ModelError: if the model was not made by `build_model`.
    """
    # A functional model lists its layers by depth, which for a chain is the order of
    # the computation; inside a block, forward_layers says it.
    layers = getattr(model, "layers", [])
    ours = any(isinstance(layer, MBConv | FusedMBConv) for layer in layers)
    variables = [v for layer in layers for v in _variables(layer)]
    require(
        ours and {id(v) for v in variables} == {id(v) for v in model.weights},
        f"{getattr(model, 'name', model)!r} was not made by models.build_model",
    )
    return variables


def _variables(layer: keras.Layer) -> Iterator[keras.Variable]:
    """Yield a layer's variables, depth first, in the order of the computation."""
    for part in getattr(layer, "forward_layers", ()):
        yield from _variables(part)
    for role in _ROLES:
        variable = getattr(layer, role, None)
        if variable is not None:
            yield variable
