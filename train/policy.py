"""What chooses which part of a model is trained, and learns how well that did.

A search for architectures trains one model that contains many: at every step somebody
has to say which of them the replicas compute, and to learn from what came of it. The
trainer knows no more of it than this protocol:

    # On each replica, for each micro-batch:
    with policy.choose(model, batch) as chosen:
        logits = model(images)
    shares = policy.shares(chosen, hits, images)
    # Once, behind the all-reduce of the step and the update of the weights:
    policy.update(models, means_of_shares, batch)

A run without a policy has none of this in its program.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import keras
import tensorflow as tf

if TYPE_CHECKING:
    from input_pipeline.dataset_info import DatasetInfo
    from train.experiment import Experiment


class Policy(Protocol):
    """Made under the strategy's scope; all replicas hold equal variables.

    Everything is part of a step's program: static shapes, and nothing calls back.
    """

    def check(self, experiment: "Experiment", info: "DatasetInfo") -> None:
        """Refuse what would falsify the search in silence.

        Under the strategy's scope, once, before anything is trained.

        Args:
          experiment: of the run.
          info: of its data; without names of classes where nobody has seen them.

        Raises:
          UserError: says what, and how to mend it.
        """
        ...

    def variables(self) -> dict[str, tf.Variable]:
        """Return everything that a checkpoint has to hold of it, by name."""
        ...

    def choose(
        self, model: keras.Model, batch: tf.Tensor
    ) -> AbstractContextManager[Any]:
        """Choose what the forward pass within the context computes.

        In a replica context, and once for each micro-batch: whoever draws takes the
        generators that `Experiment.policy` is handed, so that each draws its own.

        Args:
          model: that is called within.
          batch: int64[], number of the global batch.
        """
        ...

    def shares(
        self, chosen: Any, hits: tf.Tensor, images: tf.Tensor
    ) -> list[tf.Tensor]:
        """Return float32 tensors, of which `update` gets the means.

        Args:
          chosen: what `choose` has yielded.
          hits: float32[], images of this micro-batch whose class was found.
          images: float32[], how many there were; 0 where all its records are broken,
            and skipped.
        """
        ...

    def zeros(self) -> list[tf.Tensor]:
        """Return zeros of the shapes of `shares`."""
        ...

    def trains(self, batch: tf.Tensor) -> tf.Tensor | None:
        """Return bool[], whether this batch changes the weights; None is always.

        Where it is false, weights, averages, statistics and the optimizer's slots stay
        as they are, and only the policy learns. The step counts, as any other.

        Args:
          batch: int64[], number of the global batch.
        """
        ...

    def update(
        self,
        models: Sequence[keras.Model],
        means: Sequence[tf.Tensor],
        batch: tf.Tensor,
    ) -> None:
        """Learn from a step, and set in the models what is to be scored.

        In a replica context. What is assigned has to be equal on all replicas.

        Args:
          models: the trained one, and its average.
          means: of `shares` over all micro-batches and replicas; equal on all.
          batch: int64[], number of the global batch.
        """
        ...

    def numbers(self) -> dict[str, tf.Tensor]:
        """Return float32 scalars and vectors that tell how it stands.

        In the cross-replica context. They are in metrics.jsonl as "policy_" and the
        name; scalars are curves of TensorBoard, too.
        """
        ...
