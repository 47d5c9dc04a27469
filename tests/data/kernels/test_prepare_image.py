"""The operation that prepares images: TensorFlow's own resizing to the bit, steps in order, its own memory."""

import ctypes
import itertools
import subprocess
import sys

import numpy as np
import pytest

from tests.support.op_inputs import photograph

# (height, width) of the image, (height, width) asked for.
SIZES = [
    ((60, 90), (32, 32)),
    ((20, 11), (32, 32)),
    ((32, 32), (32, 32)),
    ((1, 1), (5, 5)),
    ((1, 40), (16, 16)),
    ((40, 1), (16, 16)),
    ((2, 3), (7, 4)),
    ((375, 500), (224, 224)),
    ((120, 333), (301, 97)),
    ((50, 60), (1, 1)),
    ((9, 9), (224, 224)),
]


@pytest.fixture(scope="module")
def prepare_image(tf):
    from efficientnet_tpu.data.kernels import prepare_image

    return prepare_image


@pytest.fixture(scope="module")
def calls_of(tf, prepare_image):
    """calls_of((kernel, *parameters), ...); Cutout's center is in the middle."""
    from efficientnet_tpu.data.kernels.kernel_calls import NO_OP, NUM_COEFFICIENTS, KernelCalls

    def calls_of(*steps):
        numbers = [[*step[1:], *[0.0] * (NUM_COEFFICIENTS - len(step[1:])), 0.5, 0.5] for step in steps]
        kernels = [prepare_image.kernel_number(step[0]) if step[0] else NO_OP for step in steps]
        return KernelCalls(tf.constant(kernels, tf.int32), tf.constant(numbers, tf.float64))

    return calls_of


def _noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), np.uint8)


# ---- Resizing


@pytest.mark.parametrize(("shape", "size"), SIZES, ids=str)
@pytest.mark.parametrize("picture", [_noise, photograph], ids=["noise", "photograph"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_resizes_like_tensorflow_1_to_the_bit(tf, prepare_image, shape, size, picture, interpolation):
    image = picture(*shape)
    # As the reference calls it, by the name of the method.
    method = getattr(tf.compat.v1.image.ResizeMethod, interpolation.upper())
    expected = tf.compat.v1.image.resize(image[np.newaxis], size, method)[0].numpy()
    prepared = prepare_image.prepare_image(tf.constant(image), size, interpolation=interpolation).numpy()
    assert prepared.dtype == np.uint8
    np.testing.assert_array_equal(prepared, np.clip(np.floor(expected + 0.5), 0, 255))
    truncated = prepare_image.prepare_image(tf.constant(image), size, truncate=True, interpolation=interpolation)
    np.testing.assert_array_equal(truncated, np.clip(expected, 0, 255).astype(np.uint8))
    mirrored = prepare_image.prepare_image(
        tf.constant(image), size, mirrored=tf.constant(True), interpolation=interpolation
    )
    np.testing.assert_array_equal(mirrored, prepared[:, ::-1])


@pytest.mark.slow
def test_every_extent_resizes_bilinearly_like_tensorflow_1(tf, prepare_image):
    for extent in range(1, 401):
        for image in (_noise(3, extent), _noise(extent, 3)):
            expected = tf.compat.v1.image.resize_bilinear(image[np.newaxis], (224, 224))[0].numpy()
            prepared = prepare_image.prepare_image(tf.constant(image), (224, 224), interpolation="bilinear").numpy()
            np.testing.assert_array_equal(prepared, np.floor(expected + 0.5), err_msg=f"extent {extent}")


def test_every_extent_resizes_like_tensorflow_1(tf, prepare_image):
    """The scale is a rounded quotient: of 400 widths, few have pixels halfway between two tabulated weights."""
    for width in range(1, 401):
        image = _noise(2, width)
        expected = tf.compat.v1.image.resize_bicubic(image[np.newaxis], (2, 224), align_corners=False)[0].numpy()
        prepared = prepare_image.prepare_image(tf.constant(image), (2, 224)).numpy()
        np.testing.assert_array_equal(prepared, np.clip(np.floor(expected + 0.5), 0, 255), err_msg=f"width {width}")


def test_evaluation_and_training_resize_alike(tf, prepare_image):
    """An exported model and an evaluation hold TensorFlow's own operation, training this one."""
    from efficientnet_tpu.data import preprocessing

    for shape, interpolation in itertools.product(((300, 200), (64, 301), (7, 9)), ("bicubic", "bilinear")):
        image = tf.constant(photograph(*shape))
        np.testing.assert_array_equal(
            prepare_image.prepare_image(image, (96, 96), interpolation=interpolation),
            preprocessing.resize(image, (96, 96), interpolation=interpolation),
            err_msg=str(shape),
        )


# ---- Kernels


def test_steps_are_applied_in_their_order_to_the_resized_and_mirrored_image(tf, prepare_image, calls_of):
    """By 0 to 4 of them, since images are written in turn; what is kept comes between."""
    image = tf.constant(photograph(50, 70))
    # Doubled; from 100 on inverted; a square cut out. In any other order, the result is another.
    steps = [("blend", 2.0, 0.0), ("levels", 255, 0, 100), ("cutout", 9.0), ("blend", 0.5, 0.0)]
    expected = prepare_image.prepare_image(image, (32, 32), mirrored=tf.constant(True), truncate=True).numpy()
    for count in range(len(steps) + 1):
        if count:
            name, *numbers = steps[count - 1]
            if name == "blend":
                expected = np.clip(expected * numbers[0], 0, 255).astype(np.uint8)
            elif name == "levels":
                expected = np.where(expected < 100, expected, 255 - expected)
            else:
                expected = expected.copy()
                expected[7:25, 7:25] = 128
        for between in (
            steps[:count],
            [part for step in steps[:count] for part in (("",), step)],
            [*steps[:count], ("",)],
        ):
            prepared = prepare_image.prepare_image(
                image,
                (32, 32),
                mirrored=tf.constant(True),
                truncate=True,
                calls=calls_of(*between) if between else None,
            )
            np.testing.assert_array_equal(prepared, expected)


def test_the_image_given_stays_as_it_was(tf, prepare_image, calls_of):
    pixels = photograph(32, 32)
    image = tf.constant(pixels)
    prepare_image.prepare_image(image, (32, 32), calls=calls_of(("levels", 255, 0, 0)))
    np.testing.assert_array_equal(image, pixels)


def test_threads_do_not_disturb_each_other(tf, prepare_image, calls_of):
    """Many images at a time, of every size, by kernels with memory of their own."""
    images = [photograph(20 + 7 * number, 90 - 5 * number, number) for number in range(12)]
    calls = calls_of(("equalize",), ("sharpness", 1.9), ("autocontrast",), ("transform", 0.9, 0.2, 3, -0.2, 0.9, 5))
    expected = [prepare_image.prepare_image(tf.constant(image), (64, 48), calls=calls).numpy() for image in images]
    ragged = tf.ragged.stack([tf.constant(image.reshape(-1)) for image in images])
    shapes = tf.constant([image.shape for image in images])

    def prepare(index):
        image = tf.reshape(ragged[index % 12], shapes[index % 12])
        return prepare_image.prepare_image(image, (64, 48), calls=calls)

    dataset = tf.data.Dataset.range(240).map(prepare, num_parallel_calls=8)
    assert dataset.element_spec == tf.TensorSpec([64, 48, 3], tf.uint8)
    for index, prepared in enumerate(dataset.as_numpy_iterator()):
        np.testing.assert_array_equal(prepared, expected[index % 12])


# ---- Refusals


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3), (4, 4), (4, 4, 1), (4, 4, 4), (1, 4, 4, 3), ()])
def test_what_is_no_image_is_refused(tf, prepare_image, shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="with pixels"):
        prepare_image.prepare_image(tf.zeros(shape, tf.uint8), (8, 8))


@pytest.mark.parametrize(
    ("kernels", "shape"),
    [([-1], (1, 8)), ([99], (1, 8)), ([0], (1, 7)), ([0], (2, 8)), ([0, 0], (1, 8)), ([[0]], (1, 8)), ([0], (8,))],
)
def test_calls_that_would_read_beyond_their_parameters_are_refused(tf, prepare_image, kernels, shape):
    from efficientnet_tpu.data.kernels.kernel_calls import KernelCalls

    calls = KernelCalls(tf.constant(kernels, tf.int32), tf.zeros(shape, tf.float64))
    with pytest.raises(tf.errors.InvalidArgumentError, match="kernels known in this process"):
        prepare_image.prepare_image(tf.zeros([4, 4, 3], tf.uint8), (8, 8), calls=calls)


def test_a_refused_image_does_not_end_the_process_nor_the_next_image(tf, prepare_image):
    heights = tf.data.Dataset.from_tensor_slices([4, 0, 4, 0, 4])
    images = heights.map(lambda height: prepare_image.prepare_image(tf.ones([height, 4, 3], tf.uint8), (2, 2)))
    assert len(list(images.ignore_errors())) == 3


def test_an_unknown_kernel_is_an_error(prepare_image):
    with pytest.raises(KeyError, match="blur"):
        prepare_image.kernel_number("blur")


# ---- Other processes

_RUN_A_GRAPH = """
import sys
from efficientnet_tpu.hardware import tensorflow_startup
tensorflow_startup.import_tensorflow()
import tensorflow as tf
if sys.argv[2] == "registered":
    from efficientnet_tpu.data.kernels import prepare_image_op
    prepare_image_op.register_all()
definition = tf.compat.v1.GraphDef.FromString(open(sys.argv[1], "rb").read())
prune = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(definition, name=""), []).prune
print(prune([], "prepared:0")().numpy().tobytes().hex())
"""


@pytest.mark.slow
@pytest.mark.parametrize("registered", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_graph_made_here_runs_where_the_operation_is_registered(tf, prepare_image, calls_of, tmp_path, registered):
    """As on the hosts of a TPU slice: kernels have the same numbers everywhere, addresses are their own."""
    image = photograph(20, 30)
    steps = [("equalize",), ("color", 1.5), ("pil_sharpness", 0.3)]
    with tf.Graph().as_default() as graph:
        prepared = prepare_image.prepare_image(tf.constant(image), (16, 16), calls=calls_of(*steps))
        tf.identity(prepared, name="prepared")
    (tmp_path / "graph").write_bytes(graph.as_graph_def().SerializeToString())
    command = [sys.executable, "-c", _RUN_A_GRAPH, str(tmp_path / "graph"), "registered" if registered else "not"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if registered:
        expected = prepare_image.prepare_image(tf.constant(image), (16, 16), calls=calls_of(*steps))
        assert finished.stdout.strip() == expected.numpy().tobytes().hex(), finished.stderr
    else:
        assert finished.returncode != 0
        assert "EfficientnetPrepareImage" in finished.stderr


def test_where_nothing_can_be_kept_functions_are_compiled_all_the_same(monkeypatch):
    from efficientnet_tpu.data.kernels.numba_compile import c_function, compiled

    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    assert compiled(lambda number: number + 1)(2) == 3
    import numba

    address = c_function(lambda number: number + 1, numba.int64(numba.int64))
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(2) == 3
