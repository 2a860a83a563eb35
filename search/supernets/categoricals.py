"""One categorical distribution for each choice of a space, in a graph of TensorFlow.

They are rows of matrices [C, V]: C choices in the space's order, V values of the choice
that has most; what is behind a choice's own values is padding, and 0 in whatever comes
out. All shapes are static. As everywhere in `search`, a choice counts where all its
conditions hold (`Choice.when`); one that does not has its first value.
"""

import numpy as np
import tensorflow as tf

from search.networks.layout import Layout
from search.networks.space import Space
from search.supernets.selection import Selection, is_size

_NEVER = -1e9  # as a logit: exp of it is 0 in float32, and it is finite


class Categoricals:
    """The distributions of a space.

    Attributes:
      shape: [C, V].
      size: of the flat vectors, see `search.supernets.selection`.
    """

    def __init__(self, space: Space):
        layout, selection = Layout(space.choices), Selection(space)
        sizes = np.array(layout.sizes)
        self.shape = (len(sizes), int(sizes.max()))
        self.size = selection.size
        self._conditions = layout.conditions
        is_value = np.arange(self.shape[1]) < sizes[:, None]
        self._places = np.flatnonzero(is_value)  # of the flat vector in the matrix
        self._padding = np.where(is_value, 0.0, _NEVER).astype(np.float32)
        self._first = np.eye(1, self.shape[1], dtype=np.float32)
        sized = np.array([is_size(choice) for choice in space.choices])
        self._is_size = sized[:, None].astype(np.float32)
        self._mixed = self._spread(selection.warm_up())

    def _spread(self, vector: np.ndarray) -> np.ndarray:
        matrix = np.zeros(self.shape, np.float32)
        matrix.ravel()[self._places] = vector
        return matrix

    def flat(self, matrix: tf.Tensor) -> tf.Tensor:
        """Return float32[size] of float32[C, V], without the padding."""
        return tf.gather(tf.reshape(matrix, [-1]), self._places)

    def log_probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Return float32[C, V]; about -1e9 in the padding."""
        return tf.nn.log_softmax(logits + self._padding)

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Return float32[C, V] of float32[C, V]."""
        return tf.nn.softmax(logits + self._padding)

    def draw(self, logits: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return float32[C, V], a value of each choice: zeros and ones.

        It is a function of the seed, int32[2]: largest logit plus Gumbel noise.
        """
        least = float(np.finfo(np.float32).tiny)
        uniform = tf.random.stateless_uniform(self.shape, seed, minval=least)
        noise = -tf.math.log(-tf.math.log(uniform))
        return self._largest(logits + self._padding + noise)

    def likeliest(self, logits: tf.Tensor) -> tf.Tensor:
        """Return float32[C, V], the likeliest network: of equal values the first."""
        return self.settled(self._largest(logits + self._padding))[0]

    def _largest(self, scores: tf.Tensor) -> tf.Tensor:
        index = tf.argmax(scores, axis=1, output_type=tf.int32)
        return tf.one_hot(index, self.shape[1])

    def warmed_up(
        self, drawn: tf.Tensor, operations: tf.Tensor, sizes: tf.Tensor
    ) -> tf.Tensor:
        """Return a draw with all operations alike, or the largest sizes.

        Args:
          drawn: float32[C, V].
          operations: bool[], whether all operations are to be computed.
          sizes: bool[], whether sizes are to be the largest.
        """
        share = tf.where(
            tf.cast(self._is_size, tf.bool),
            tf.cast(sizes, tf.float32),
            tf.cast(operations, tf.float32),
        )
        return drawn * (1.0 - share) + self._mixed * share

    def settled(self, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return weights whose choices that do not count have their first value.

        Args:
          weights: float32[C, V] that sum to 1 along each row.

        Returns:
          (float32[C, V], float32[C]: 1 where a choice counts, else 0). Of a mixture it
          counts if it does in any part.
        """
        active = tf.cast(self.chances(weights) > 0, tf.float32)
        counts = active[:, None]
        return weights * counts + self._first * (1.0 - counts), active

    def chances(self, weights: tf.Tensor) -> tf.Tensor:
        """Return float32[C], the probability that each choice counts.

        Exact where the choices of its conditions do not depend on one another but in
        a chain.

        Args:
          weights: float32[C, V], of each value.
        """
        if not any(self._conditions):
            return tf.ones(self.shape[:1])
        found: list[tf.Tensor] = []
        for conditions in self._conditions:
            chance = tf.ones([])
            for other, indices in conditions:
                values = tf.gather(weights[other], sorted(indices))
                chance *= found[other] * tf.reduce_sum(values)
            found.append(chance)
        return tf.stack(found)

    def score(
        self, logits: tf.Tensor, weights: tf.Tensor, active: tf.Tensor
    ) -> tf.Tensor:
        """Return float32[C, V], the gradient of a draw's log-probability by the logits.

        Choices that do not count have no part in that probability.

        Args:
          logits: float32[C, V].
          weights: float32[C, V], the draw.
          active: float32[C], see `settled`.
        """
        return (weights - self.probabilities(logits)) * active[:, None]

    def entropy(self, logits: tf.Tensor) -> tf.Tensor:
        """Return float32[] in nats: of the networks, if `chances` are exact."""
        chances = self.probabilities(logits)
        logs = tf.math.multiply_no_nan(self.log_probabilities(logits), chances)
        return -tf.reduce_sum(self.chances(chances) * tf.reduce_sum(logs, axis=1))

    def entropy_gradient(self, logits: tf.Tensor) -> tf.Tensor:
        """Return float32[C, V], of `entropy` by the logits."""
        logits = tf.identity(logits)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            entropy = self.entropy(logits)
        return tf.convert_to_tensor(tape.gradient(entropy, logits))
