"""The gradients made for CPUs are those of TensorFlow's own operations, and are used on CPUs only."""

from unittest.mock import Mock

import numpy as np
import pytest


@pytest.fixture(scope="module")
def kernels(tf):
    from efficientnet_tpu.models.fused import cpu_gradients

    return cpu_gradients


def swish(kernels, dtype="float32"):
    return kernels.Swish(dtype=dtype)


def value_and_gradient(tf, function, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y, tape.gradient(y, x, upstream)


@pytest.mark.parametrize("compiled", [True, False])
def test_swish_and_its_gradient(tf, kernels, compiled):
    x = np.concatenate([np.linspace(-30, 30, 2001), [-1e4, -100.0, 0.0, 100.0, 1e4]])
    upstream = np.random.default_rng(0).normal(size=x.shape)
    arguments = (swish(kernels), tf.constant(x, tf.float32), tf.constant(upstream, tf.float32))
    call = lambda: value_and_gradient(tf, *arguments)  # noqa: E731
    y, gradient = tf.function(call)() if compiled else call()
    gate = 1 / (1 + np.exp(-np.clip(x, -700, None)))
    np.testing.assert_allclose(y, x * gate, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, upstream * gate * (1 + x * (1 - gate)), rtol=1e-5, atol=1e-5)


def test_swish_in_bfloat16_rounds_once(tf, kernels):
    x = tf.cast(tf.linspace(-8.0, 8.0, 500), tf.bfloat16)
    ones = tf.ones_like(x)
    y, gradient = value_and_gradient(tf, swish(kernels, "mixed_bfloat16"), x, ones)
    assert y.dtype == gradient.dtype == tf.bfloat16
    _, exact = value_and_gradient(tf, swish(kernels), tf.cast(x, tf.float32), tf.cast(ones, tf.float32))
    # Half a unit in the last of bfloat16's 8 bits.
    np.testing.assert_allclose(tf.cast(gradient, tf.float32), exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 4, 5, 7])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 3)])
def test_depthwise_convolution_is_keras(tf, kernels, size, kernel_size, strides):
    import keras

    arguments = {"kernel_size": kernel_size, "strides": strides, "padding": "same", "use_bias": False}
    ours, theirs = kernels.DepthwiseConv2D(**arguments), keras.layers.DepthwiseConv2D(**arguments)
    draw = np.random.default_rng(0)
    x = tf.constant(draw.normal(size=(3, *size, 16)), tf.float32)
    results = []
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.kernel.assign(ours.kernel)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(layer(x)))
        results.append([loss, *tape.gradient(loss, [x, layer.kernel.value])])
    for mine, expected in zip(*results, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=2e-5)


def test_depthwise_convolution_of_images_of_any_size(tf, kernels):
    layer = kernels.DepthwiseConv2D(5, 2, padding="same", use_bias=False)
    layer.build((None, None, None, 4))

    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(layer(x)))
        return tape.gradient(loss, layer.kernel.value)

    any_size = tf.function(gradient, input_signature=[tf.TensorSpec((None, None, None, 4))])
    for height, width in ((6, 9), (5, 12)):
        x = tf.random.stateless_normal((2, height, width, 4), (height, width))
        np.testing.assert_allclose(any_size(x), gradient(x), rtol=1e-5, atol=1e-5)


def graph_of_gradients(tf, kernels):
    """By what swish and a depthwise convolution of 5 x 5 receive."""
    activation = kernels.Swish()
    layer = kernels.DepthwiseConv2D(5, padding="same", use_bias=False)
    layer.build((1, 6, 6, 2))

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = activation(layer(x))
        return tape.gradient(y, [x, layer.kernel.value])

    return gradients.get_concrete_function(tf.ones((1, 6, 6, 2))).graph


@pytest.mark.parametrize(("on_cpu", "has_compiler"), [(True, True), (True, False), (False, True)])
def test_only_cpus_run_them(tf, kernels, monkeypatch, on_cpu, has_compiler):
    monkeypatch.setattr(kernels.placement, "on_cpu", lambda: on_cpu)
    monkeypatch.setattr(kernels, "_has_compiler", lambda: has_compiler)
    graph = graph_of_gradients(tf, kernels)
    compiled = any("_XlaMustCompile" in function.attr for function in graph.as_graph_def().library.function)
    assert compiled == (on_cpu and has_compiler)
    kinds = [operation.type for operation in graph.get_operations()]
    # The 5 columns in 3 and 2.
    assert kinds.count("DepthwiseConv2dNativeBackpropFilter") == (2 if on_cpu else 1)


def test_the_forward_pass_computes_nothing_for_the_gradients(tf, kernels, monkeypatch):
    """What it computed would be held until then."""
    monkeypatch.setattr(kernels, "_has_compiler", lambda: False)
    graph = graph_of_gradients(tf, kernels)
    held = [operation for operation in graph.get_operations() if operation.type == "Identity"]
    held = [operation.outputs[0] for operation in held if operation.control_inputs]
    # Of swish's inputs, and of the convolution's.
    assert {consumer.type for tensor in held for consumer in tensor.consumers()} >= {"Sigmoid", "Pad"}


def test_outside_of_a_graph_nothing_is_compiled(tf, kernels, monkeypatch):
    """TensorFlow would compile it for every shape, and warn that there are so many."""
    monkeypatch.setattr(kernels, "_compiled_swish_gradient", lambda dtype: pytest.fail("compiles"))
    for size in (1, 2):
        x = tf.ones((size, 3))
        assert value_and_gradient(tf, swish(kernels), x, x)[1].shape == (size, 3)


@pytest.mark.parametrize(("error", "compiles"), [(None, True), ("NotFoundError", False)])
def test_whether_the_cpu_has_a_compiler(tf, kernels, monkeypatch, error, compiles):
    """tensorflow-tpu's has none: "could not find registered transfer manager for platform Host"."""
    if error:
        raised = getattr(tf.errors, error)(None, None, "could not find registered transfer manager for platform Host")
        monkeypatch.setattr(tf, "function", Mock(return_value=Mock(side_effect=raised)))
    assert kernels._has_compiler.__wrapped__() == compiles


@pytest.mark.parametrize("replicas", [1, 4])
def test_in_replicas(tf, kernels, replicas):
    from efficientnet_tpu.config.run import HardwareConfig
    from efficientnet_tpu.hardware.distribution import connect

    strategy = connect(HardwareConfig(virtual_replicas=replicas))

    @tf.function
    def run():
        def replica():
            x = tf.linspace(-3.0, 3.0, 50)
            return value_and_gradient(tf, swish(kernels), x, tf.ones_like(x))[1]

        return strategy.run(replica)

    x = tf.linspace(-3.0, 3.0, 50)
    expected = value_and_gradient(tf, tf.nn.silu, x, tf.ones_like(x))[1]
    for gradient in strategy.experimental_local_results(run()):
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
