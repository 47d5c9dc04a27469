"""Where it runs: the devices, the strategy over them, the precision. The only file that knows.

Supported: one CPU, one or several GPUs of a host, the TPUs of a TPU VM, a named TPU.
"""

import contextlib
import importlib.util
from collections.abc import Iterator

import keras
import tensorflow as tf
from tensorflow.python.framework import kernels  # no public list of kernels

from efficientnet_tpu.config import HardwareConfig, UserError


def connect(hardware: HardwareConfig) -> tf.distribute.Strategy:
    """Finds the devices and returns the strategy over them. Call it before anything else touches TensorFlow."""
    if hardware.intra_op_threads:
        tf.config.threading.set_intra_op_parallelism_threads(hardware.intra_op_threads)
    elif hardware.tpu or tf.config.list_physical_devices("GPU"):
        # The CPU then only prepares images. Operations split over threads would wait for each other there: XLA splits
        # those of augmentation by the number of cores, which doubled their CPU time on 2.
        with contextlib.suppress(RuntimeError):  # TensorFlow has started already
            tf.config.threading.set_intra_op_parallelism_threads(1)
    if hardware.tpu:
        return _tpu_strategy(hardware)
    if hardware.virtual_replicas:
        return tf.distribute.MirroredStrategy(_virtual_devices(hardware.virtual_replicas))
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()  # TensorFlow's default: the one GPU, or the CPU


def describe(strategy: tf.distribute.Strategy) -> str:
    """'4 x CPU', for people."""
    kind = "TPU" if _is_tpu(strategy) else "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return f"{strategy.num_replicas_in_sync} x {kind}"


def per_replica_batch_size(global_batch_size: int, strategy: tf.distribute.Strategy, flag: str) -> int:
    """Images of a batch that each device takes. Raises UserError where it does not come out even."""
    replicas = strategy.num_replicas_in_sync
    if global_batch_size % replicas:
        lower, upper = global_batch_size // replicas * replicas, -(-global_batch_size // replicas) * replicas
        choices = f"{lower} or {upper}" if lower else f"{upper}"
        raise UserError(f"--{flag}={global_batch_size}: does not divide over {replicas} devices. Use {choices}.")
    return global_batch_size // replicas


def precision_policy(hardware: HardwareConfig, strategy: tf.distribute.Strategy) -> str:
    """The Keras dtype policy: variables are float32 always, bfloat16 is for activations."""
    use_bfloat16 = hardware.precision == "bfloat16" or (hardware.precision == "auto" and _is_tpu(strategy))
    return "mixed_bfloat16" if use_bfloat16 else "float32"


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Layers made in this context follow `policy`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _is_tpu(strategy: tf.distribute.Strategy) -> bool:
    return isinstance(strategy, tf.distribute.TPUStrategy)


def _tpu_strategy(hardware: HardwareConfig) -> tf.distribute.Strategy:
    # Not ConfigureDistributedTPU, the op that fails first: a graph pass replaces it, so it has no kernel anywhere.
    if not kernels.get_registered_kernels_for_op("TPUCompile").kernel:
        raise UserError(
            f"--tpu={hardware.tpu}: this TensorFlow {tf.__version__} has no TPU support; tensorflow-tpu has.\n"
            "On the TPU VM, in a fresh environment: pip install -e '.[tpu]'"
            "  (in an old one first: pip uninstall tensorflow)"
        )
    named = hardware.tpu != "local" and not hardware.tpu.startswith("grpc://")
    if named and importlib.util.find_spec("cloud_tpu_client") is None:
        raise UserError(
            f"--tpu={hardware.tpu}: looking up a TPU by name needs cloud-tpu-client: pip install -e '.[cloud]'\n"
            "On a TPU VM no name is needed: --tpu=local"
        )
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
        tpu=hardware.tpu, zone=hardware.tpu_zone or None, project=hardware.gcp_project or None
    )
    try:
        if hardware.tpu != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except tf.errors.OpError as error:
        raise UserError(
            f"--tpu={hardware.tpu}: no TPU answers: {error.message.strip()}\n"
            "On a machine without a TPU leave --tpu out; on a TPU VM, another program may hold the TPU."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _virtual_devices(count: int) -> list[str]:
    """Splits the CPU; a split made earlier in the process stands, if it is wide enough."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    present = tf.config.get_logical_device_configuration(cpu)
    if not present or len(present) < count:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            raise UserError(f"--virtual_replicas={count}: TensorFlow has started with fewer devices.") from error
    return [f"CPU:{index}" for index in range(count)]
