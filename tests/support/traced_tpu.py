"""A real TPUStrategy whose cores are logical CPUs: it can be traced, and not run."""

import collections

import numpy as np

CORES = 4


def make_strategy(tf):
    from tensorflow.python.client import session
    from tensorflow.python.tpu import tpu_system_metadata

    place = "/job:localhost/replica:0/task:0/device"
    cores = [session._DeviceAttributes(f"{place}:TPU:{core}", "TPU", 0, 0) for core in range(CORES)]

    class Resolver(tf.distribute.cluster_resolver.TPUClusterResolver):
        def get_tpu_system_metadata(self):
            return tpu_system_metadata.TPUSystemMetadata(
                num_cores=CORES, num_hosts=1, num_of_cores_per_host=CORES, topology=None, devices=cores
            )

    tf.config.list_logical_devices()  # starts TensorFlow; the strategy would otherwise look for a TPU
    strategy = tf.distribute.TPUStrategy(Resolver("local"))
    cpus = [f"{place}:CPU:{core}" for core in range(CORES)]
    extended = strategy.extended
    extended._tpu_devices = np.array([[cpu] for cpu in cpus], dtype=object)
    extended._device_input_worker_devices = collections.OrderedDict([(cpus[0], cpus)])
    extended._host_input_worker_devices = collections.OrderedDict([(cpus[0], [cpus[0]] * CORES)])
    return strategy
