"""Where a pre-training runs: the devices of one machine, or several machines."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator

import tensorflow as tf

_RESTARTS = "EMBBERT_PRETRAIN_RESTARTS"
_MAX_RESTARTS = 100
# Errors by which a collective operation tells that another worker is gone.
_PEER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def make_strategy(replicas: int = 0) -> tf.distribute.Strategy:
    """Chooses the strategy: several machines if TF_CONFIG says so, else this one's devices.

    Args:
        replicas: If above 0, split the CPU into so many replicas instead.
    """
    if json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if replicas:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * replicas
        )
        return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])
    return tf.distribute.MirroredStrategy(
        None if tf.config.list_physical_devices("GPU") else ["CPU:0"]
    )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes files: the first worker, or the only process."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_type or resolver.task_id == 0


def task_id(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of this worker, 0 for the chief."""
    return 0 if is_chief(strategy) else int(strategy.cluster_resolver.task_id)


@contextlib.contextmanager
def starting_again(module: str) -> Iterator[None]:
    """Starts this process's command anew where another worker was lost.

    TensorFlow cannot take a worker back into a running cluster: every process begins afresh, waits
    for the lost one and goes on from the checkpoint.

    Args:
        module: That `python -m` runs; the arguments are those of this process.
    """
    try:
        yield
    except _PEER_LOST as error:
        restarts = int(os.environ.get(_RESTARTS, "0"))
        if "TF_CONFIG" not in os.environ or restarts == _MAX_RESTARTS:
            raise
        reason = str(error).split("\n")[0][:200]
        print(f"a worker is gone ({reason}); starting again", file=sys.stderr, flush=True)
        os.environ[_RESTARTS] = str(restarts + 1)
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])
