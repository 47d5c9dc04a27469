"""TensorFlow's own operations make the same images as the operation compiled by numba, to the bit."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from tests.support.op_inputs import ARGUMENTS, SEMANTICS, photograph

SIZE = (37, 53)
POLICIES = [("none", "reference"), ("autoaugment", "reference"), ("randaugment", "reference"), ("randaugment", "pil")]


@pytest.fixture(scope="module")
def prepare_image_op(tf):
    from efficientnet_tpu.data.kernels import prepare_image

    return prepare_image.load_op()


@pytest.fixture(scope="module")
def tf_kernels(tf):
    from efficientnet_tpu.data.kernels import tf_kernels

    return tf_kernels


def _pictures(height, width):
    """uint8 [6, height, width, 3]: a photograph, noise, one color, two neighboring levels, a ramp, chequers."""
    generator = np.random.default_rng(1)
    ramp = np.broadcast_to(np.linspace(0, 255, width)[np.newaxis, :, np.newaxis], (height, width, 3))
    return np.stack(
        [
            photograph(height, width),
            generator.integers(0, 256, (height, width, 3)),
            np.broadcast_to([3, 94, 197], (height, width, 3)),
            generator.integers(100, 102, (height, width, 3)),
            ramp,
            np.broadcast_to(100 + np.indices((height, width)).sum(0)[..., np.newaxis] % 2, (height, width, 3)),
        ]
    ).astype(np.uint8)


def test_both_hold_every_kernel(tf_kernels):
    from efficientnet_tpu.data.kernels import image_kernels
    from efficientnet_tpu.data.kernels.kernel_calls import KERNEL_NAMES

    assert sorted(tf_kernels.KERNELS) == sorted(image_kernels.KERNELS) == sorted(KERNEL_NAMES)


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_resizing_and_mirroring(tf, prepare_image_op, tf_kernels, truncate, interpolation):
    from efficientnet_tpu.data.kernels.kernel_calls import NUM_PARAMETERS, KernelCalls

    calls = KernelCalls(tf.zeros([0], tf.int32), tf.zeros([0, NUM_PARAMETERS], tf.float64))
    shapes = [(60, 90), (20, 11), (32, 32), (1, 1), (1, 40), (2, 3), (375, 500), (120, 333)]
    for (shape, size), mirrored in itertools.product(
        itertools.product(shapes, [(32, 32), (224, 224), (31, 97)]), [True, False]
    ):
        image = tf.constant(photograph(*shape))
        arguments = image, size, tf.constant(mirrored), truncate, calls, interpolation
        result, expected = tf_kernels.prepare_image(*arguments), prepare_image_op.prepare_image(*arguments)
        np.testing.assert_array_equal(result, expected, err_msg=f"{shape} to {size}")


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("in_dataset", [True, False])
def test_every_operation_with_every_argument(tf, prepare_image_op, tf_kernels, semantics, in_dataset):
    """In a dataset, and in a tf.function, whose optimizer must not reorder sums. Each argument on pictures in turn."""
    from efficientnet_tpu.data.augment import image_ops
    from efficientnet_tpu.data.kernels.kernel_calls import KernelCalls

    pictures = tf.constant(_pictures(*SIZE))
    centers = np.random.default_rng(2).random((1000, 2))
    cases = [(name, value) for name, values in ARGUMENTS.items() for value in values]
    indices, kernels, parameters = [], [], []
    for number, (name, value) in enumerate(cases):
        kernel, coefficients = image_ops.make_call(name, value, semantics, *SIZE)
        for picture in {number % 6, (number + 1) % 6, 0}:
            indices.append(picture)
            kernels.append(kernel)
            parameters.append(np.concatenate([coefficients, centers[len(indices)]]))

    def both(index, kernel, row):
        calls = KernelCalls(kernel[tf.newaxis], row[tf.newaxis])
        arguments = pictures[index], SIZE, tf.constant(False), False, calls
        return tf_kernels.prepare_image(*arguments), prepare_image_op.prepare_image(*arguments)

    inputs = [np.array(indices, np.int32), np.array(kernels, np.int32), np.array(parameters)]
    if in_dataset:
        results = tf.data.Dataset.from_tensor_slices(tuple(inputs)).map(both).as_numpy_iterator()
    else:
        function = tf.function(both, autograph=False)
        results = (function(*map(tf.constant, row)) for row in zip(*inputs, strict=True))
    for index, kernel, (result, expected) in zip(indices, kernels, results, strict=True):
        np.testing.assert_array_equal(result, expected, err_msg=f"kernel {kernel} on picture {index}")


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 5), (5, 2), (3, 3)])
def test_tiny_images(tf, prepare_image_op, tf_kernels, shape):
    from efficientnet_tpu.data.augment import image_ops
    from efficientnet_tpu.data.kernels.kernel_calls import KernelCalls

    for semantics, (name, values) in itertools.product(SEMANTICS, ARGUMENTS.items()):
        kernel, coefficients = image_ops.make_call(name, values[-1], semantics, *shape)
        parameters = tf.concat([coefficients, tf.constant([0.3, 0.8], tf.float64)], axis=0)
        calls = KernelCalls(tf.constant([kernel]), parameters[tf.newaxis])
        arguments = tf.constant(photograph(*shape)), shape, tf.constant(False), False, calls
        result, expected = tf_kernels.prepare_image(*arguments), prepare_image_op.prepare_image(*arguments)
        np.testing.assert_array_equal(result, expected, err_msg=f"{name} of {semantics}")


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3), (4, 4), (4, 4, 1), (1, 4, 4, 3)])
def test_what_is_no_image_is_refused(tf, tf_kernels, shape):
    from efficientnet_tpu.data.kernels.kernel_calls import NUM_PARAMETERS, KernelCalls

    calls = KernelCalls(tf.zeros([0], tf.int32), tf.zeros([0, NUM_PARAMETERS], tf.float64))
    image = tf.zeros(shape, tf.uint8)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        tf_kernels.prepare_image(image, (8, 8), tf.constant(False), False, calls)


# ---- Which of the two is taken

_PREPARE = """
import sys
sys.modules["numba"] = None  # as if it were not installed
from efficientnet_tpu.hardware import tensorflow_startup
tensorflow_startup.import_tensorflow()
import numpy as np
import tensorflow as tf
from tests.data.kernels.test_tf_kernels import POLICIES, prepared_images

np.save(sys.argv[1], np.stack([prepared_images(tf, *policy) for policy in POLICIES]))
"""


def prepared_images(tf, augment, semantics):
    """uint8 [12, 48, 48, 3]: a JPEG file as the training stream prepares it."""
    from efficientnet_tpu.config.data import DataConfig
    from efficientnet_tpu.data.preprocessing import make_train_image

    encoded = tf.io.encode_jpeg(photograph(90, 120))
    prepare = make_train_image(DataConfig(augment=augment, augment_semantics=semantics), 48)
    seeds = tf.data.Dataset.range(12).map(lambda number: tf.stack([1, tf.cast(number, tf.int32)]))
    return np.stack(list(seeds.map(lambda seed: prepare(encoded, seed)).as_numpy_iterator()))


@pytest.mark.slow
def test_without_numba_training_images_are_the_same(tf, tmp_path):
    command = [sys.executable, "-c", _PREPARE, str(tmp_path / "images.npy")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    (line,) = finished.stdout.splitlines()
    assert "numba" in line
    assert "3 times" in line
    for policy, images in zip(POLICIES, np.load(tmp_path / "images.npy"), strict=True):
        np.testing.assert_array_equal(images, prepared_images(tf, *policy), err_msg=str(policy))


@pytest.mark.slow
def test_without_numba_training_goes_on(shapes, tiny_recipe, tmp_path):
    code = "import sys; sys.modules['numba'] = None; from efficientnet_tpu import cli; cli.main(sys.argv)"
    command = [sys.executable, "-c", code, f"--data_dir={shapes}", f"--model_dir={tmp_path}/run", *tiny_recipe]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert len([line for line in finished.stdout.splitlines() if line.startswith("numba cannot")]) == 1
    assert (tmp_path / "run" / "checkpoints").is_dir()


@pytest.mark.parametrize("error", [OSError("no library"), AttributeError("no TF_Dim"), RuntimeError("refused")])
def test_without_the_interface_for_c_tensorflows_operations_are_taken(tf, monkeypatch, capsys, error):
    from efficientnet_tpu.data.kernels import prepare_image, prepare_image_op, tf_c_api
    from efficientnet_tpu.data.kernels.kernel_calls import KERNEL_NUMBERS

    def fail():
        raise error

    image = tf.constant(photograph(30, 40))
    expected = prepare_image.prepare_image(image, (16, 16))
    monkeypatch.setattr(prepare_image_op, "register", prepare_image_op.register.__wrapped__)
    monkeypatch.setattr(tf_c_api, "link", fail)
    prepare_image._load_op_once.cache_clear()
    try:
        np.testing.assert_array_equal(prepare_image.prepare_image(image, (16, 16)), expected)
        assert prepare_image.kernel_number("color") == KERNEL_NUMBERS["color"]
        (line,) = capsys.readouterr().out.splitlines()
        assert str(error) in line
    finally:
        prepare_image._load_op_once.cache_clear()


def test_a_library_that_lacks_a_function_is_not_linked(monkeypatch):
    from efficientnet_tpu.data.kernels import tf_c_api

    monkeypatch.setattr(tf_c_api.dimension, "symbol", "TF_DimOfTomorrow")
    with pytest.raises(AttributeError, match="TF_DimOfTomorrow"):
        tf_c_api.link()
