"""Where a computation runs: what layers ask about the device and the replicas that a graph is traced for.

`distribution` makes the strategy; layers and gradient accumulation ask here.
"""

import tensorflow as tf


def is_tpu(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether the strategy's replicas are TPU cores."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def on_tpu() -> bool:
    """Returns whether a TPU will run the graph that is traced here."""
    return is_tpu(tf.distribute.get_strategy())


def on_cpu() -> bool:
    """Returns whether a CPU will run the graph that is traced here."""
    return not on_tpu() and not tf.config.list_physical_devices("GPU")


def group_mean(values: tf.Tensor, group_size: int) -> tf.Tensor:
    """Returns the mean of `values` over this replica's group: `group_size` consecutive replicas, or all if fewer.

    Args:
        values: float32 [moments, channels], this replica's own.
        group_size: number of replicas in a group; it divides the number of replicas.

    Returns:
        float32 [moments, channels], the same in all replicas of a group.
    """
    context = tf.distribute.get_replica_context()
    num_replicas = context.num_replicas_in_sync
    if group_size >= num_replicas:
        return context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
    if is_tpu(context.strategy):
        # One instruction on a TPU, which knows the groups; its own `all_reduce` is over all cores.
        groups = [list(range(first, first + group_size)) for first in range(0, num_replicas, group_size)]
        return tf.raw_ops.CrossReplicaSum(input=values, group_assignment=groups) / group_size
    # Only TPUs reduce within groups. Elsewhere all values are gathered, and the group's own are taken out.
    first = context.replica_id_in_sync_group // group_size * group_size
    gathered = context.all_gather(values[tf.newaxis], axis=0)
    # Gathering loses the static shape.
    return tf.ensure_shape(tf.reduce_mean(gathered[first : first + group_size], axis=0), values.shape)
