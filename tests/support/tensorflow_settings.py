"""TensorFlow as all tests have it; imported before anything asks it for a device."""

import tensorflow as tf

# Two devices for the tests of replicas.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
# Most of a test's time is the making of graphs that run for a moment.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
