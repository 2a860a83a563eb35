"""`python -m launch.host.worker` with a CPU for a core, as a rehearsal wants it."""

from common import cli
from launch.host import worker


def serve_cpus(port, callers):
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(device_count={"CPU": 2})
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return serve(port, callers, config)


serve, worker.serve = worker.serve, serve_cpus

if __name__ == "__main__":
    cli.leave(worker.main())
