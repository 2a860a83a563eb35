"""The gRPC service of one host of a slice, with CPUs for cores.

    python -m launch.rehearsal.worker CORES

It prints its port, and knows of itself alone: the client tells it of the others.
SIGTERM does not end it once it has had a client (TensorFlow 2.20); the end of its
standard input does, so that it never outlives who has started it.
"""

import os
import sys
import threading


def main() -> None:
    """Serve until standard input ends."""
    import tensorflow as tf

    from input_pipeline.fused import library

    library.find()  # as a worker of a slice, of the input pipelines that run here
    config = tf.compat.v1.ConfigProto(device_count={"CPU": int(sys.argv[1]) + 1})
    # As in `cores.make_cpus`.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    server = tf.distribute.Server(
        tf.train.ClusterSpec({"worker": ["127.0.0.1:0"]}),  # any port that is free
        job_name="worker",
        task_index=0,
        config=config,
    )
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    print(server.target.rpartition(":")[2], flush=True)
    server.join()


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
