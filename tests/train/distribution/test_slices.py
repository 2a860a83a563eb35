"""Where a process does what no worker of its slice is to do."""

import os
import subprocess
import sys

import pytest

from launch.rehearsal import workers

OWN = "/job:localhost/replica:0/task:0/device:CPU:0"
CLIENT = """
import tensorflow as tf
from train.distribution import slices

def place():
    with tf.device(slices.own_cpu()):
        return tf.constant(1.0).device

print(place())
server = tf.distribute.Server.create_local_server()
cluster = tf.train.ClusterSpec({"worker": [server.target.removeprefix("grpc://")]})
resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
    cluster, master=server.target, task_type="worker", task_id=0
)
tf.config.experimental_connect_to_cluster(resolver)
print(tf.constant(1.0).device)  # where TensorFlow goes by itself
print(place())
"""


@pytest.mark.long
def test_its_own_cpu_stays_its_own_once_workers_are_connected():
    ended = subprocess.run(
        [sys.executable, "-c", CLIENT],
        env=workers.without_proxy(os.environ),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr
    before, connected, own = ended.stdout.split()
    assert before == own == OWN
    assert connected == "/job:worker/replica:0/task:0/device:CPU:0"
