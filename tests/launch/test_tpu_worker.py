"""The server on the hosts of a TPU slice: what another process puts together runs on it, its input pipeline too."""

import contextlib
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


# Joins the servers of a slice as the program does, then works on each of them for every line that it reads.
_JOIN = """
import sys
from efficientnet_tpu.hardware import tensorflow_startup
tensorflow_startup.import_tensorflow()
import tensorflow as tf

resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="grpc://" + sys.argv[1])
tf.config.experimental_connect_to_cluster(resolver)
for _ in sys.stdin:
    for task in (0, 1):
        try:
            with tf.device(f"/job:worker/replica:0/task:{task}/device:CPU:0"):
                print(task, int(tf.reduce_sum(tf.ones([3, 3]))), flush=True)
        except (tf.errors.UnavailableError, tf.errors.AbortedError):
            print(task, "lost", flush=True)
"""


@pytest.mark.slow
def test_the_input_pipeline_runs_on_a_worker():
    (address,) = _addresses(1)
    with _worker(0, address):
        command = [sys.executable, "-c", _USE_THE_SERVER, address]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.stdout.split() == ["True", "/job:worker/replica:0/task:0/device:CPU:0"], finished.stderr


@pytest.mark.slow
def test_a_slice_is_joined_loses_a_host_and_is_joined_again():
    """The server that was killed and started anew is joined by the next program; the other one has stayed."""
    addresses = ",".join(_addresses(2))
    with _worker(0, addresses):
        with _worker(1, addresses) as other, _joined(addresses) as work:
            assert work() == ["0 9", "1 9"]
            other.kill()
            other.wait()
            assert work() == ["0 9", "1 lost"]
        with _worker(1, addresses), _joined(addresses) as work:
            assert work() == ["0 9", "1 9"]


def _addresses(count):
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(count)]
        return [f"localhost:{probe.getsockname()[1]}" for probe in probes]


@contextlib.contextmanager
def _worker(number, addresses):
    command = [sys.executable, "-m", "efficientnet_tpu.launch.tpu_worker", str(number), addresses]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def _joined(addresses):
    """A program that has joined the servers; yields a function that works on each and returns what was said of it."""
    command = [sys.executable, "-c", _JOIN, addresses]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:

        def work():
            process.stdin.write("\n")
            return [process.stdout.readline().strip() for _ in range(2)]

        try:
            yield work
        finally:
            process.kill()
