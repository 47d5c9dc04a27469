"""The devices of a run, the strategy over them, and what its hosts agree on.

Supported: one CPU, one or several GPUs of a host, the TPUs of a TPU VM, a TPU by name or address, and several hosts
with CPUs or GPUs, each of which runs the same program (TF_CONFIG).
"""

import contextlib
import functools
import json
import os
import re
import zlib
from collections.abc import Iterator

import keras
import tensorflow as tf
from tensorflow.python.distribute import values  # no public name of its classes
from tensorflow.python.framework import kernels  # no public list of kernels

from efficientnet_tpu.config.config import OPTIONS, Config, options_of
from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import local_tpu, tpu_discovery
from efficientnet_tpu.hardware.cpu_features import BFLOAT16_INSTRUCTIONS, cpu_features
from efficientnet_tpu.hardware.placement import is_tpu
from efficientnet_tpu.hardware.preemption import PREEMPTED, StoppedError
from efficientnet_tpu.hardware.stderr import silence_stderr
from efficientnet_tpu.hardware.tf_config import ONE_HOST, TFConfig, read_tf_config
from efficientnet_tpu.installation import environment_command

# Errors of a run on several hosts after one of them is gone or has restarted; see `explained_loss_of_host` for more.
_HOST_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def connect(hardware: HardwareConfig) -> tf.distribute.Strategy:
    """Finds the devices and returns the strategy over them. Call it before any other use of TensorFlow."""
    tf_config = read_tf_config()
    can_use_tpu = bool(kernels.get_registered_kernels_for_op("TPUCompile").kernel)
    chosen, note = tpu_discovery.choose(local_tpu.asked_for(hardware), can_use_tpu)
    if tf_config is not ONE_HOST and (chosen or hardware.virtual_replicas):
        flag, remedy = (f"tpu={chosen}", "give --tpu=none") if chosen else ("virtual_replicas", "leave it out")
        raise UserError(
            f"--{flag}: does not go with the {tf_config.count} hosts of TF_CONFIG, which train on CPUs or GPUs. Unset "
            f"TF_CONFIG, or {remedy}."
        )
    local_tpu.require_usable(hardware)
    if note:
        print(note, flush=True)
    _limit_threads(hardware, beside_accelerator=bool(chosen))
    if chosen:
        return _tpu_strategy(chosen, hardware, can_use_tpu)
    if tf_config is not ONE_HOST:
        return _multi_host_strategy(tf_config)
    if hardware.virtual_replicas:
        return tf.distribute.MirroredStrategy(virtual_devices(hardware.virtual_replicas))
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()  # TensorFlow's default: the one GPU, or the CPU


def describe(strategy: tf.distribute.Strategy) -> str:
    """Returns a description such as "4 x CPU" or "16 x GPU on 2 hosts"."""
    kind = "TPU" if is_tpu(strategy) else "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    hosts = num_hosts(strategy)
    return f"{strategy.num_replicas_in_sync} x {kind}" + (f" on {hosts} hosts" if hosts > 1 else "")


def num_hosts(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of programs that train together: 1 for a TPU of any size, which has one program."""
    return strategy.extended._num_workers if _spans_hosts(strategy) else 1


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this program reports and writes. The others must still take part in every reduction."""
    return host_index(strategy) == 0


def host_index(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of this program among those that train together; 0 is the chief."""
    return read_tf_config().index if _spans_hosts(strategy) else 0


def print_on_chief(strategy: tf.distribute.Strategy, line: str) -> None:
    """Prints a line once, on the chief."""
    if is_chief(strategy):
        print(line, flush=True)


def from_chief(strategy: tf.distribute.Strategy, value: int) -> int:
    """Returns the value of the chief on every host, for what depends on a clock. Every host must call it."""
    return _sum_over_hosts(strategy, value if is_chief(strategy) else 0)


def any_host(strategy: tf.distribute.Strategy, value: bool) -> bool:
    """Returns whether `value` is true on at least one host. Every host must call it."""
    return _sum_over_hosts(strategy, int(value)) > 0


def require_same(strategy: tf.distribute.Strategy, value: str, what: str) -> None:
    """Raises UserError on hosts whose `value` differs from the chief's. Every host must call it."""
    own = zlib.crc32(value.encode())
    if from_chief(strategy, own) != own:
        raise UserError(f"host {read_tf_config().index} of TF_CONFIG: {what} not the same as on the chief, host 0.")


def require_same_run(strategy: tf.distribute.Strategy, config: Config) -> None:
    """Raises UserError on hosts whose options differ from the chief's, but for those that are per host."""
    options = {name: value for name, value in options_of(config).items() if not OPTIONS[name].per_host}
    require_same(strategy, json.dumps(options, sort_keys=True), "the flags are")


def _sum_over_hosts(strategy: tf.distribute.Strategy, value: int) -> int:
    if not _spans_hosts(strategy):
        return value

    def on_first_device(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        first = context.replica_id_in_sync_group % (strategy.num_replicas_in_sync // num_hosts(strategy)) == 0
        return tf.constant(value if first else 0, tf.int64)

    parts = strategy.experimental_distribute_values_from_function(on_first_device)
    return int(strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None))


@contextlib.contextmanager
def sums_read_once(strategy: tf.distribute.Strategy, state: tf.Module) -> Iterator[None]:
    """Lets one host save `state` alone within this context. Every host must enter it.

    Reading a sync-on-read variable, of which every replica has a part, is a reduction over all hosts: a host could not
    save alone. Here each is read once, when the context is entered, and keeps that value until it ends.
    """
    parts = []
    if _spans_hosts(strategy):
        tracked = tf.train.TrackableView(state).descendants()
        variables = [one.value if isinstance(one, keras.Variable) else one for one in tracked]
        parts = [variable for variable in variables if isinstance(variable, values.SyncOnReadVariable)]
    for variable in parts:
        variable._get_cross_replica = functools.partial(tf.identity, variable._get_cross_replica())
    try:
        yield
    finally:
        for variable in parts:
            del variable._get_cross_replica  # uncovers the method of the class


@contextlib.contextmanager
def explained_loss_of_host(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns the failure of a reduction because another host is gone into StoppedError within this context.

    What TensorFlow says after it, when the hosts end one after the other, is not shown: nothing has failed.
    """
    try:
        yield
        if _spans_hosts(strategy):
            silence_stderr()
    except tf.errors.OpError as error:
        lost = isinstance(error, _HOST_LOST) or "Collective ops is aborted" in error.message
        if not lost or not (_spans_hosts(strategy) or is_tpu(strategy)):
            raise
        gone, again = f"host {read_tf_config().index} of TF_CONFIG: another host", "all of them again by"
        if is_tpu(strategy):
            gone, again = "the TPU: one of its hosts", "its server again, and then"
        raise StoppedError(
            f"{gone} is gone ({_reason(error)}). Start {again} the same command: the run continues from its last "
            "checkpoint.",
            PREEMPTED,
        ) from error


def per_replica_batch_size(global_batch_size: int, strategy: tf.distribute.Strategy, flag: str) -> int:
    """Returns the images of a batch on each device. Raises UserError if they do not divide evenly."""
    replicas = strategy.num_replicas_in_sync
    if global_batch_size % replicas:
        lower, upper = global_batch_size // replicas * replicas, -(-global_batch_size // replicas) * replicas
        choices = f"{lower} or {upper}" if lower else f"{upper}"
        raise UserError(f"--{flag}={global_batch_size}: does not divide over {replicas} devices. Use {choices}.")
    return global_batch_size // replicas


def fitting_batch_size(global_batch_size: int, num_images: int, strategy: tf.distribute.Strategy) -> int:
    """Returns the batch, or a smaller one that `num_images` images fill: the least that divides over the devices."""
    replicas = strategy.num_replicas_in_sync
    return min(global_batch_size, -(-num_images // replicas) * replicas)


def precision_policy(hardware: HardwareConfig, strategy: tf.distribute.Strategy) -> str:
    """Returns the Keras dtype policy. Variables are always float32; bfloat16 is for activations."""
    use_bfloat16 = hardware.precision == "bfloat16" or (hardware.precision == "auto" and is_tpu(strategy))
    return "mixed_bfloat16" if use_bfloat16 else "float32"


def describe_emulation(
    hardware: HardwareConfig, strategy: tf.distribute.Strategy, cpu_info: str = "/proc/cpuinfo"
) -> str:
    """Returns a line on a CPU that is asked for bfloat16 and has no instructions for it, empty elsewhere.

    cpu_info: path of Linux' description of the CPU; where there is none, nothing is known.
    """
    policy = precision_policy(hardware, strategy)
    if policy != "mixed_bfloat16" or is_tpu(strategy) or tf.config.list_physical_devices("GPU"):
        return ""
    features = cpu_features(cpu_info)
    if features is None or BFLOAT16_INSTRUCTIONS & features:
        return ""
    return (
        "--precision=bfloat16: this CPU has no instructions for it (AVX512_BF16, AMX). Rounds as a TPU does, and is "
        "slower than --precision=float32"
    )


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Sets the Keras dtype policy of layers made within this context."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _spans_hosts(strategy: tf.distribute.Strategy) -> bool:
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _limit_threads(hardware: HardwareConfig, beside_accelerator: bool) -> None:
    if hardware.intra_op_threads:
        tf.config.threading.set_intra_op_parallelism_threads(hardware.intra_op_threads)
    elif beside_accelerator or tf.config.list_physical_devices("GPU"):
        # The CPU then only prepares images. One thread per operation: XLA splits the operations of augmentation by the
        # number of cores, whose threads then wait for each other; that doubled their CPU time on 2 cores.
        with contextlib.suppress(RuntimeError):  # TensorFlow has started already
            tf.config.threading.set_intra_op_parallelism_threads(1)


def _multi_host_strategy(tf_config: TFConfig) -> tf.distribute.Strategy:
    """Waits for all hosts and returns the strategy over them."""
    os.environ["TF_CONFIG"] = tf_config.as_json()  # TensorFlow reads it too, and under Slurm there is none
    name = f"host {tf_config.index} of {tf_config.count} ({tf_config.addresses[tf_config.index]})"
    print(f"{name}: waiting for the others", flush=True)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise StoppedError(
            f"host {tf_config.index} of TF_CONFIG: {', '.join(tf_config.addresses)} did not come together "
            f"({_reason(error)}). Does the same command run on all of them, and does each reach the others?",
            PREEMPTED,
        ) from error


def _reason(error: tf.errors.OpError) -> str:
    """Returns the first line of the message, without the name of the operation and where in the graph it is."""
    message = error.message.rpartition("<stack traces unavailable>\n")[2].strip()
    return re.sub(r"^\{\{.*?\}\} ", "", message.partition("\n")[0]).strip()


def _tpu_strategy(name: str, hardware: HardwareConfig, can_use_tpu: bool) -> tf.distribute.Strategy:
    # Not ConfigureDistributedTPU, the op that fails first: a graph pass replaces it, so it has no kernel anywhere.
    if not can_use_tpu:
        raise UserError(
            f"--tpu={name}: this TensorFlow {tf.__version__} has no TPU support; tensorflow-tpu has.\n"
            f"On the TPU VM, in a fresh environment: {environment_command('tpu')}"
            "  (in an old one first: pip uninstall tensorflow)"
        )
    zone, project = tpu_discovery.require_reachable(name, hardware.tpu_zone, hardware.gcp_project)
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name, zone=zone or None, project=project or None)
    try:
        if name != local_tpu.LOCAL:
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except tf.errors.OpError as error:
        raise UserError(
            f"--tpu={name}: no TPU answers: {_reason(error)}\n"
            "On a TPU VM, another program may hold the TPU. --tpu=none does without one."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def virtual_devices(count: int) -> list[str]:
    """Splits the CPU into devices and returns their names; an earlier split of the process is kept if large enough."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    present = tf.config.get_logical_device_configuration(cpu)
    if not present or len(present) < count:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            raise UserError(f"--virtual_replicas={count}: TensorFlow has started with fewer devices.") from error
    return [f"CPU:{index}" for index in range(count)]
