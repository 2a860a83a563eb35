"""`train.main`, of which each process says what its controller draws and has learnt.

    python -m tests.support.policy_bits 2 --gin_file=...

on so many CPUs. "drawn REPLICA SELECTION" for each step of each replica, and
"learnt DIGEST" of the policy's variables at the end of each loop.
"""

import hashlib
import sys

import tensorflow as tf

from search.controller import Reinforce
from tests.support import several_devices
from train.trainer import Trainer


def draw(self, batch):
    chosen = _draw(self, batch)
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    selection = tf.strings.reduce_join(tf.strings.as_string(chosen.selection, 2), 0)
    tf.print("drawn", replica, selection, output_stream=sys.stderr)
    return chosen


def end_loop(self):
    digest = hashlib.sha256()
    for variable in self.state.policy.variables().values():
        digest.update(variable.numpy().tobytes())
    print("learnt", digest.hexdigest(), file=sys.stderr, flush=True)
    return _end_loop(self)


_draw, Reinforce.draw = Reinforce.draw, draw
_end_loop, Trainer.end_loop = Trainer.end_loop, end_loop

if __name__ == "__main__":
    sys.exit(several_devices.train())
