"""Training by the fused gradients is training by TensorFlow's own, and changes no more than how layers compute."""

import numpy as np
import pytest

from efficientnet_tpu.models.compound_scaling import build_architecture
from tests.support.small_training import Training, draw_batch, small


@pytest.fixture(scope="module")
def train_step(tf):
    from efficientnet_tpu.training import train_step

    return train_step


def trained(tf, train_step, **options):
    """Two steps in float32, so that the second depends on all gradients of the first."""
    training = Training(tf, train_step, small(), draw_batch(), precision="float32", **options)
    training.run(2)
    return training


@pytest.fixture(scope="module")
def plain(tf, train_step):
    """Of the plain network nothing depends on the device, which is looked up while a step is traced."""
    return trained(tf, train_step, fused_gradients="off")


@pytest.mark.parametrize("as_on_tpu", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["cpu", "tpu"])
def test_a_step_is_the_plain_networks(tf, train_step, plain, monkeypatch, as_on_tpu):
    from efficientnet_tpu.hardware import placement
    from efficientnet_tpu.models.layers import BatchNormalization

    assert {type(layer) for layer in plain.state.model.layers if "_bn" in layer.name} == {BatchNormalization}
    monkeypatch.setattr(placement, "on_tpu", lambda: as_on_tpu)
    fused = trained(tf, train_step)
    for part, values in plain.values().items():
        for value, other in zip(values, fused.values()[part], strict=True):
            # 1e-7: what has no gradient, since a batch norm subtracts it, has one of rounding.
            tolerance = max(1e-4 * np.abs(value).max(), 1e-7)
            np.testing.assert_allclose(other, value, rtol=1e-4, atol=tolerance, err_msg=part)
    assert fused.state.loss.result().numpy() == pytest.approx(plain.state.loss.result().numpy(), rel=1e-5)


@pytest.mark.parametrize("name", ["efficientnet-nano", "efficientnet-lite0", "resnet-50"])
def test_connected_layers(tf, name):
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.fused.connect import connect

    architecture = build_architecture(name, depth_coefficient=0.2)
    model, plain = build_model(architecture), build_model(architecture)
    connect(model, architecture)
    assert [weight.path for weight in model.weights] == [weight.path for weight in plain.weights]
    for layer, stock in zip(model.layers, plain.layers, strict=True):
        assert isinstance(layer, type(stock))
        assert layer.get_config() == stock.get_config()
    kinds = {layer.name: type(layer).__name__ for layer in model.layers if "keras.src" not in type(layer).__module__}
    expanded = [index for index, block in enumerate(architecture.blocks) if getattr(block, "expand_ratio", 1) != 1]
    excited = [index for index, block in enumerate(architecture.blocks) if getattr(block, "se_filters", 0)]
    count = {kind: list(kinds.values()).count(kind) for kind in set(kinds.values())}
    assert count.get("ExpandingConv2D", 0) == count.get("ExpandingBatchNormalization", 0) == len(expanded)
    assert count.get("ProjectingConv2D", 0) == count.get("KeepingBatchNormalization", 0) == len(excited)
    assert (count.get("Swish", 0) > 0) == (architecture.activation == "silu")
    assert kinds["stem_bn"] == "FusedBatchNormalization"


def test_evaluation_is_the_plain_networks(tf):
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.fused.connect import connect

    architecture = build_architecture("efficientnet-nano")
    model, plain = build_model(architecture), build_model(architecture)
    connect(model, architecture)
    plain.set_weights(model.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), "uint8")
    np.testing.assert_array_equal(*(tf.function(network)(images) for network in (model, plain)))
