"""What training makes small."""

import keras
import tensorflow as tf


def cross_entropy(
    labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float
) -> tf.Tensor:
    """Return float32[B]: -sum(target * log softmax), zero where the label is -1.

    Args:
      labels: int32[B] in [-1, C); -1 marks what is not an image.
      logits: float32[B, C].
      label_smoothing: part of the target that is spread evenly over the C classes.
    """
    classes = logits.shape[-1] or 0  # known when the graph is built
    return soft_cross_entropy(smooth(labels, classes, label_smoothing), logits)


def smooth(labels: tf.Tensor, classes: int, label_smoothing: float) -> tf.Tensor:
    """Return targets float32[B, classes], all zero where the label is -1."""
    targets = tf.one_hot(labels, classes) * (1 - label_smoothing)
    targets += label_smoothing / classes
    return targets * tf.cast(labels >= 0, tf.float32)[:, None]


def soft_cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return float32[B]: -sum(target * log softmax), zero where all targets are.

    Args:
      targets: float32[B, C], shares of the classes; all zero is not an image.
      logits: float32[B, C].
    """
    losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    # TensorFlow's gradient takes the targets' sum for 1: of zeros it has one.
    return losses * tf.cast(tf.reduce_any(targets != 0, axis=1), tf.float32)


def l2(variables: list[keras.Variable]) -> tf.Tensor:
    """Return sum(v^2) / 2 over all of them."""
    return tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(v)) for v in variables])
