"""What a layer has to know of replicas, passed in from outside."""

import keras
import tensorflow as tf


class ReplicaSeedGenerator(keras.random.SeedGenerator):
    """Random seeds that are a function of (seed, step, replica) and nothing else.

    Keras' own generator counts up a state variable. Replicas hold equal copies of it,
    so they drop the same units, and a checkpoint forgets it, so a resumed run draws
    other masks. Without a state both mistakes are impossible.
    """

    def __init__(self, seed: int, step: tf.Variable):
        super().__init__(seed)
        self._step = step

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Returns int[2], the seed of this layer at this step on this replica."""
        del ordered  # there is no state to update in any order
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        draw = self._step * context.num_replicas_in_sync + replica
        state = tf.convert_to_tensor(self.state)
        return tf.stack([state[0], tf.cast(draw, state.dtype)])
