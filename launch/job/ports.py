"""At which ports the hosts of a job reach each other."""

from launch.job.machines import GpuHosts, Machines

# Of a slice: TensorFlow's worker, libtpu, and its mesh. They ask nobody who he is.
WORKER, LIBTPU, MESH = 8470, 8471, 8476
# Of each host with GPUs, in TF_CONFIG, as TensorFlow's guides have it.
CLIENT = 2222


def of(on: Machines) -> tuple[int, ...]:
    """Return those that are known; none of a single host with GPUs."""
    if isinstance(on, GpuHosts):
        return (CLIENT,) if on.hosts > 1 else ()
    return WORKER, LIBTPU, MESH
