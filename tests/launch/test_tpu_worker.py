"""The server on the hosts of a TPU slice: what another process puts together runs on it, its input pipeline too."""

import contextlib
import signal
import socket
import subprocess
import sys

import pytest

# Prepares images on the server and here; says whether they are the same, and where the server's were made.
_USE_THE_SERVER = """
import sys
from efficientnet_tpu.hardware import tensorflow_startup
tensorflow_startup.import_tensorflow()
import numpy as np
import tensorflow as tf
from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.preprocessing import make_train_image

config = DataConfig(augment="autoaugment")
encoded = tf.io.encode_jpeg(np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)).numpy()

def images():
    prepare = make_train_image(config, 32)
    seeds = tf.data.Dataset.range(99).map(lambda number: tf.stack([1, tf.cast(number, tf.int32)]))
    prepared = iter(seeds.map(lambda seed: prepare(tf.constant(encoded), seed), num_parallel_calls=2))
    return tf.stack([next(prepared) for _ in range(40)])

tf.config.experimental_connect_to_host(sys.argv[1])
with tf.device("/job:worker/replica:0/task:0/device:CPU:0"):
    there = images()
here = images()
print(bool(tf.reduce_all(here == there)), there.device)
"""


@pytest.mark.slow
def test_the_input_pipeline_runs_on_a_worker():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    with _worker(address):
        command = [sys.executable, "-c", _USE_THE_SERVER, address]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.stdout.split() == ["True", "/job:worker/replica:0/task:0/device:CPU:0"], finished.stderr


@contextlib.contextmanager
def _worker(address):
    command = [sys.executable, "-m", "efficientnet_tpu.launch.tpu_worker", "0", address]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGKILL)
