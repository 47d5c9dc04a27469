"""The search space: its size, EfficientNet-B0 and MnasNet-A1 as published; properties of its operations."""

import random
from dataclasses import replace

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models import complexity
from efficientnet_tpu.models.architecture import B0_STAGES, VARIANTS
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.studies.search.space import (
    CHOICES_PER_BLOCK,
    BlockChoice,
    Cost,
    SearchSpace,
    decode,
    encode,
    from_tokens,
    scaled_filters,
    to_tokens,
)

SPACE = SearchSpace()
# Tan et al. 2019, Figure 7: operation, kernel, squeeze-and-excitation, filters, layers.
MNASNET_A1 = (
    ("separable", 3, 0.0, 16, 1),
    ("mbconv6", 3, 0.0, 24, 2),
    ("mbconv3", 5, 0.25, 40, 3),
    ("mbconv6", 3, 0.0, 80, 4),
    ("mbconv6", 3, 0.25, 112, 2),
    ("mbconv6", 5, 0.25, 160, 3),
    ("mbconv6", 3, 0.0, 320, 1),
)


def networks(count, space=SPACE, seed=1):
    generator = random.Random(seed)
    return [space.sample(generator) for _ in range(count)]


def mnasnet_a1(widths=(1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 1.0)):
    return tuple(
        BlockChoice(operation, kernel_size, se_ratio, "identity", width, layers - stage.repeats)
        for (operation, kernel_size, se_ratio, _, layers), width, stage in zip(
            MNASNET_A1, widths, B0_STAGES, strict=True
        )
    )


def test_the_size_is_the_published_one():
    assert CHOICES_PER_BLOCK == 432
    assert SPACE.num_networks == 432**7
    assert len(SPACE.num_values) == 42
    assert SearchSpace(VARIANTS["efficientnet-nano"]).num_networks == 432**7


def test_b0_is_a_point():
    b0 = SPACE.skeleton_network()
    built = scale("efficientnet-b0", SPACE.variant(b0), 1000)
    assert built == build_architecture("efficientnet-b0")
    assert SPACE.cost(b0).params == 5_288_548


def test_mnasnet_a1_differs_from_a_point_by_one_width():
    """The published 3.9 M parameters and 312 M multiply-adds are A1's with its 160 filters in the sixth block. The
    space has 144, 192 and 240 there: factors of B0's 192. Every other choice of A1's is in the space.
    """
    network = mnasnet_a1()
    stages = SPACE.stages(network)
    published = tuple(row[3:] for row in MNASNET_A1)
    assert [(stage.filters, stage.repeats) for stage in stages] == [
        *published[:5], (144, 3), published[6],
    ]  # fmt: skip
    of_a1 = tuple(replace(stage, filters=row[3]) for stage, row in zip(stages, MNASNET_A1, strict=True))
    b0 = VARIANTS["efficientnet-b0"]
    a1 = complexity.count(scale("a1", replace(b0, baseline=replace(b0.baseline, stages=of_a1)), 1000))
    assert (round(a1.trainable_params / 1e6, 1), round(a1.multiply_adds / 1e6)) == (3.9, 312)
    cost = SPACE.cost(network)
    assert (round(cost.params / 1e6, 2), round(cost.multiply_adds / 1e6)) == (3.66, 302)


@pytest.mark.parametrize("model", ["efficientnet-b0", "efficientnet-b3", "efficientnet-nano", "efficientnet-lite1"])
def test_costs_are_those_of_complexity(model):
    space = SearchSpace(VARIANTS[model], num_classes=10)
    for network in networks(40, space):
        counted = complexity.count(scale("network", space.variant(network), 10))
        assert space.cost(network) == Cost(counted.trainable_params, counted.multiply_adds)


def test_names_and_tokens_go_both_ways():
    for network in networks(200):
        assert decode(encode(network), SPACE) == network
        assert from_tokens(to_tokens(network)) == network
    assert len(set(map(encode, networks(200)))) == 200


@pytest.mark.parametrize(
    "text", ["", "000000", "-".join(["000000"] * 8), "-".join(["000003", *["000000"] * 6]), "0" * 42, "x" * 10**6]
)
def test_other_texts_name_nothing(text):
    with pytest.raises(UserError, match="names no network") as error:
        decode(text, SPACE)
    assert len(str(error.value)) < 400


def test_samples_have_every_value_alike():
    sampled = [to_tokens(network) for network in networks(3000)]
    for place, number in enumerate(SPACE.num_values):
        counts = [0] * number
        for tokens in sampled:
            counts[tokens[place]] += 1
        assert min(counts) > 0.9 * 3000 / number


def test_a_mutation_is_one_other_choice():
    generator = random.Random(1)
    places = set()
    for network in networks(500):
        mutated = SPACE.mutate(network, generator)
        changed = [
            place
            for place, pair in enumerate(zip(to_tokens(network), to_tokens(mutated), strict=True))
            if pair[0] != pair[1]
        ]
        assert len(changed) == 1
        places.update(changed)
    assert len(places) == 42


def test_a_crossover_has_blocks_of_both():
    generator = random.Random(1)
    first, second = networks(2)
    children = [SPACE.crossover(first, second, generator) for _ in range(100)]
    for child in children:
        assert all(block in pair for block, pair in zip(child, zip(first, second, strict=True), strict=True))
    assert len(set(children)) > 50


@pytest.mark.parametrize(
    ("filters", "found"),
    [(16, (8, 16, 24)), (24, (16, 24, 32)), (40, (32, 40, 48)), (80, (64, 80, 104)), (192, (144, 192, 240)),
     (8, (8, 8, 16))],
)  # fmt: skip
def test_widths_are_multiples_of_8(filters, found):
    assert tuple(scaled_filters(filters, factor) for factor in (0.75, 1.0, 1.25)) == found


def test_a_block_keeps_a_layer():
    network = tuple(replace(choice, layers=-1) for choice in SPACE.skeleton_network())
    assert [stage.repeats for stage in SPACE.stages(network)] == [1, 1, 1, 2, 2, 3, 1]
