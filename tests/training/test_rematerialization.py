"""Computing activations again in the backward pass: the same step; what it is cut into."""

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.preemption import StoppedError
from tests.support.small_training import MIXING, Training, draw_batch, small

BLOCKS = {"rematerialize": "blocks"}


@pytest.fixture(scope="module")
def train_step(tf):
    from efficientnet_tpu.training import train_step

    return train_step


def assert_same(tf, train_step, steps, **options):
    """That a training is the same with and without: weights and moving statistics, averages, slots, metrics."""
    plain, again = (Training(tf, train_step, small(), draw_batch(), **options, **more) for more in ({}, BLOCKS))
    start = plain.values()["model"]
    for training in (plain, again):
        training.run(steps)
    for part, values in plain.values().items():
        for value, other in zip(values, again.values()[part], strict=True):
            np.testing.assert_allclose(other, value, rtol=1e-5, atol=1e-6, err_msg=part)
    assert again.state.loss.result().numpy() == pytest.approx(plain.state.loss.result().numpy(), rel=1e-6)
    assert again.state.accuracy.result().numpy() == plain.state.accuracy.result().numpy()
    return start, again


@pytest.mark.slow
def test_it_is_the_same_step(tf, train_step):
    """Dropout, stochastic depth and batch norm included; moving statistics would show that they had moved twice."""
    start, training = assert_same(tf, train_step, 3, **MIXING)
    moved = [
        not np.array_equal(weight.numpy(), before)
        for weight, before in zip(training.state.model.weights, start, strict=True)
        if "moving" in weight.path
    ]
    assert all(moved)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"gradient_accumulation_steps": 2},
        {"bn_mode": "frozen"},
        {"freeze": "blocks:2"},
        {"virtual_replicas": 4},
    ],
    ids=str,
)
def test_it_is_the_same_step_whatever_else(tf, train_step, options):
    assert_same(tf, train_step, 2, **options)


def test_the_parts_are_the_network(tf):
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.compound_scaling import build_architecture
    from efficientnet_tpu.training.rematerialization import segments

    for name in ("efficientnet-nano", "resnet-50"):
        architecture = build_architecture(name, depth_coefficient=0.2)
        model = build_model(architecture)
        configuration = model.to_json()
        parts = segments(model)
        assert len(parts) == len(architecture.blocks) + 1
        layers = [layer.name for part in parts for layer in part.layers if layer in model.layers]
        assert sorted(layers) == sorted(layer.name for layer in model.layers)
        assert {id(weight) for part in parts for weight in part.weights} == {id(weight) for weight in model.weights}
        assert model.to_json() == configuration


def test_an_unknown_way_is_refused():
    with pytest.raises(UserError, match=r"--rematerialize=block: must be one of none, blocks\. Did you mean blocks\?"):
        with_options(Config(), {"rematerialize": "block"})


@pytest.mark.slow
def test_a_run_with_it_is_resumed_without(shapes, tiny_recipe, tmp_path, capsys):
    """It is a way of computing, and no part of what is trained."""
    from efficientnet_tpu import cli

    flags = ["main.py", f"--data_dir={shapes}", f"--model_dir={tmp_path}", *tiny_recipe, "--train_epochs=2"]
    flags += ["--epochs_per_eval=1"]
    with pytest.raises(StoppedError):
        cli.main([*flags, "--rematerialize=blocks", "--stop_at_step=3"])
    cli.main([*flags, "--rematerialize=none"])
    assert "continuing from step 3" in capsys.readouterr().out
