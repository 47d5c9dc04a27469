"""The kernel that CPUs and GPUs have for batch norm gives the numbers of the plain layer, and more digits of them."""

import numpy as np
import pytest

from tests.models.test_layers import close, forward_and_gradients, random_state


@pytest.fixture(scope="module")
def kernel(tf):
    from efficientnet_tpu.models.fused import batch_norm_kernel

    return batch_norm_kernel


@pytest.mark.parametrize("shape", [(4, 5, 5, 3), (1, 2, 1, 3), (1, 1, 1, 3), (100, 3), (4, 25, 3)])
@pytest.mark.parametrize("on_tpu", [False, True])
def test_it_agrees_with_the_plain_layer(tf, kernel, monkeypatch, shape, on_tpu):
    """TPUs, and features that are no maps, have the plain computation."""
    from efficientnet_tpu.hardware import placement
    from efficientnet_tpu.models.layers import BatchNormalization

    monkeypatch.setattr(placement, "on_tpu", lambda: on_tpu)
    x = tf.constant(np.random.default_rng(4).normal(2, 3, shape), tf.float32)
    results = []
    for kind in (kernel.FusedBatchNormalization, BatchNormalization):
        layer = kind(momentum=0.9, epsilon=1e-2)
        layer.build(shape)
        random_state(layer, np.random.default_rng(5))
        graph = tf.function(layer).get_concrete_function(x, training=True).graph
        fused = "FusedBatchNormV3" in {operation.type for operation in graph.get_operations()}
        assert fused == (kind is kernel.FusedBatchNormalization and len(shape) == 4 and not on_tpu)
        results.append(forward_and_gradients(tf, layer, x))
        # The variance is the biased one: of a single element it is 0.
        results[-1] |= {"mean": layer.moving_mean.numpy(), "variance": layer.moving_variance.numpy()}
    for name, value in results[0].items():
        close(value, results[1][name], 1e-4)


def test_variance_of_numbers_far_from_zero(tf, kernel):
    # 1000 standard deviations: the difference of the mean of squares and the squared mean has no digit left there.
    x = np.random.default_rng(6).normal(1000, 1, (8, 16, 16, 3)).astype("float32")
    layer = kernel.FusedBatchNormalization(momentum=0.0)
    y = layer(tf.constant(x), training=True)
    exact = x.astype("float64")
    close(layer.moving_variance.numpy(), exact.var((0, 1, 2)), 1e-4)
    close(y, (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-3), 1e-3)
