"""Counting from the table gives the published numbers exactly."""

import json
import random
from pathlib import Path

import pytest

from efficientnet_tpu.models.architecture import output_size
from efficientnet_tpu.models.complexity import Complexity, count
from efficientnet_tpu.models.compound_scaling import build_architecture

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "models.json").read_text())
PUBLISHED = [name for name in GOLDEN if not name.startswith("_")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters(name):
    architecture, golden = build_architecture(name), GOLDEN[name]
    cost = count(architecture)
    assert cost.trainable_params == golden["params_trainable"]
    assert cost.moving_params == golden["params_bn_moving"]
    assert cost.total_params == golden["params_total"]
    classifier = (architecture.head_filters + 1) * architecture.num_classes
    assert cost.total_params - classifier == golden["params_total_notop"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_multiply_adds(name):
    cost, golden = count(build_architecture(name)), GOLDEN[name]
    split = {
        "conv": cost.conv_multiply_adds,
        "dw": cost.depthwise_multiply_adds,
        "se": cost.se_multiply_adds,
        "fc": cost.dense_multiply_adds,
    }
    assert cost.multiply_adds == golden["macs"]
    assert split == {"se": 0} | golden["macs_split"]  # Lite has no squeeze-and-excitation


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_after_each_halving(name):
    size, sizes = GOLDEN[name]["resolution"], []
    for _ in range(5):
        size = output_size(size, 2)
        sizes.append(size)
    assert sizes == GOLDEN[name]["reduction_hw"]


def test_activations_of_b7():
    # 289.9 million: model card of tf_efficientnet_b7 in timm, a count made by running the network.
    assert round(count(build_architecture("efficientnet-b7")).activations / 1e6, 1) == 289.9


def test_parameters_do_not_depend_on_the_resolution():
    architecture = build_architecture("efficientnet-b0")
    small, own = count(architecture, 32), count(architecture)
    assert (small.trainable_params, small.moving_params) == (own.trainable_params, own.moving_params)
    assert small.multiply_adds < own.multiply_adds
    assert small.activations < own.activations
    assert count(architecture, 224) == own


def test_classes_change_the_classifier_alone():
    thousand = count(build_architecture("efficientnet-b0"))
    ten = count(build_architecture("efficientnet-b0", num_classes=10))
    assert thousand.trainable_params - ten.trainable_params == 990 * (1280 + 1)
    assert thousand.dense_multiply_adds - ten.dense_multiply_adds == 990 * 1280
    assert thousand.activations - ten.activations == 990
    assert thousand.conv_multiply_adds == ten.conv_multiply_adds


def test_phi_doubles_the_multiply_adds():
    costs = [count(build_architecture(f"efficientnet-phi{phi}")).multiply_adds for phi in range(8)]
    # Rounding of filters and repeats makes a single step uneven; over seven steps about 2 each remains.
    assert 1.8 < (costs[-1] / costs[0]) ** (1 / 7) < 2.2
    assert costs == sorted(costs)


def test_a_sum_adds_field_by_field():
    draw = random.Random(0)
    first, second = ([draw.randrange(1000) for _ in range(7)] for _ in range(2))
    total = Complexity(*first) + Complexity(*second)
    assert total == Complexity(*(a + b for a, b in zip(first, second, strict=True)))
    assert total.total_params == total.trainable_params + total.moving_params
