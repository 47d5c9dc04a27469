"""Which operations an image gets, how often, and that the whole is one operation after the other."""

import dataclasses
import functools

import numpy as np
import pytest

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.augment import operations
from efficientnet_tpu.data.augment.operations import OPERATIONS
from efficientnet_tpu.data.augment.policies import AUTOAUGMENT_FLAGS, POLICIES, RANDAUGMENT_OPERATIONS
from tests.support import image_op_oracles as oracles
from tests.support.op_inputs import photograph

pytestmark = pytest.mark.usefixtures("tf")

NUM_DRAWS = 10000
SIZE = 96


@pytest.fixture(scope="module")
def autoaugment(tf):
    from efficientnet_tpu.data.augment import autoaugment

    return autoaugment


@pytest.fixture(scope="module")
def find_policy(autoaugment):
    """find_policy(--augment, RandAugment's number of layers and magnitude)"""

    def find_policy(augment, num_layers=2, magnitude=10):
        config = DataConfig(augment=augment, randaug_num_layers=num_layers, randaug_magnitude=magnitude)
        return autoaugment.find_policy(config, SIZE)

    return find_policy


@pytest.fixture(scope="module")
def draws_of(tf, autoaugment):
    """draws_of(policy, count) -> the draws of the seeds [3, 0], [3, 1], ..., as arrays with a row for each."""

    @functools.cache
    def draws_of(policy, count=NUM_DRAWS):
        fields = [field.name for field in dataclasses.fields(autoaugment.Draws)]

        def draw(index):
            draws = autoaugment.draw(policy, tf.stack([3, tf.cast(index, tf.int32)]))
            return [getattr(draws, name) for name in fields]

        dataset = tf.data.Dataset.range(count).map(draw, num_parallel_calls=2).batch(count)
        return autoaugment.Draws(**dict(zip(fields, next(dataset.as_numpy_iterator()), strict=True)))

    return draws_of


def assert_uniform(counts):
    """Chi-square below its 99.99 % quantile (Wilson and Hilferty). The draws are the same in every run."""
    counts = np.asarray(counts)
    freedom = counts.size - 1
    chi_square = ((counts - counts.mean()) ** 2).sum() / counts.mean()
    assert chi_square < freedom * (1 - 2 / (9 * freedom) + 3.72 * (2 / (9 * freedom)) ** 0.5) ** 3


def assert_share(hits, probability):
    """A share within four standard errors; exactly where there is nothing to draw."""
    tolerance = 4 * (probability * (1 - probability) / hits.size) ** 0.5
    assert hits.mean() == pytest.approx(probability, abs=tolerance)


# ---- What is chosen


def test_none_is_no_policy(find_policy):
    assert find_policy("none") is None


def test_translate_and_cutout_go_as_far_as_published(find_policy):
    """In pixels, at the highest level: fixed ones, but for the policies of small images."""
    far = {augment: find_policy(augment).pixels for augment in (*AUTOAUGMENT_FLAGS, "randaugment")}
    assert far["autoaugment"] == (250, 100)
    assert far["randaugment"] == (100, 40)
    assert far["autoaugment-cifar10"] == far["autoaugment-svhn"] == (SIZE * 10 / 32, SIZE * 10 / 32)


@pytest.mark.parametrize("augment", AUTOAUGMENT_FLAGS)
def test_sub_policies_are_uniform_and_whole(find_policy, draws_of, augment):
    draws = draws_of(find_policy(augment))
    assert draws.rows.shape == (NUM_DRAWS, 2)
    assert (draws.rows[:, 0] % 2 == 0).all()
    np.testing.assert_array_equal(draws.rows[:, 1], draws.rows[:, 0] + 1)
    assert_uniform(np.bincount(draws.rows[:, 0] // 2, minlength=25))


@pytest.mark.parametrize("augment", AUTOAUGMENT_FLAGS)
def test_operations_are_applied_with_their_probability(find_policy, draws_of, augment):
    policy = find_policy(augment)
    draws = draws_of(policy)
    assert policy.rows == tuple(step for sub_policy in POLICIES[AUTOAUGMENT_FLAGS[augment]] for step in sub_policy)
    for row, step in enumerate(policy.rows):
        assert_share(draws.applied[draws.rows == row], step.probability)


def test_the_two_operations_are_drawn_apart(find_policy, draws_of):
    """Of sub-policy 4, Solarize twice at 0.4 and 0.6: both together as often as apart draws meet."""
    draws = draws_of(find_policy("autoaugment"))
    both = draws.applied[draws.rows[:, 0] == 8].all(axis=1)
    assert_share(both, 0.4 * 0.6)


@pytest.mark.parametrize("augment", [*AUTOAUGMENT_FLAGS, "randaugment"])
def test_half_of_the_signs_are_turned_whatever_else_is_drawn(find_policy, draws_of, augment):
    policy = find_policy(augment)
    draws = draws_of(policy)
    assert_share(draws.negative.ravel(), 0.5)
    for row, step in enumerate(policy.rows):
        if OPERATIONS[step.name].is_signed and step.probability > 0:
            assert_share(draws.negative[(draws.rows == row) & draws.applied], 0.5)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_randaugment_applies_every_operation_it_draws_and_draws_all_alike(find_policy, draws_of, num_layers):
    policy = find_policy("randaugment", num_layers)
    assert [step.name for step in policy.rows] == list(RANDAUGMENT_OPERATIONS)
    draws = draws_of(policy)
    assert draws.rows.shape == (NUM_DRAWS, num_layers)
    assert draws.applied.all()
    for layer in range(num_layers):
        assert_uniform(np.bincount(draws.rows[:, layer], minlength=16))
    for layer in range(1, num_layers):  # with replacement: any of 16 after any of 16
        assert_uniform(np.bincount(draws.rows[:, layer - 1] * 16 + draws.rows[:, layer], minlength=256))


@pytest.mark.parametrize("augment", ["autoaugment", "randaugment"])
def test_centers_of_cutout_are_uniform(find_policy, draws_of, augment):
    centers = draws_of(find_policy(augment)).centers
    assert centers.min() >= 0
    assert centers.max() < 1
    for layer in range(2):
        y, x = (centers[:, layer] * 8).astype(int).T
        assert_uniform(np.bincount(y * 8 + x, minlength=64))


def test_neighbouring_positions_draw_apart(find_policy, draws_of):
    rows = draws_of(find_policy("randaugment")).rows[:, 0]
    assert_uniform(np.bincount(rows[:-1:2] * 16 + rows[1::2], minlength=256))


# ---- What is applied


def _by_hand(policy, draws, index, image, semantics):
    """What the oracles make of the image by the draws of one index."""
    for layer in range(policy.num_layers):
        if draws.applied[index, layer]:
            step = policy.rows[draws.rows[index, layer]]
            value = operations.argument(step.name, step.level, *policy.pixels)
            if OPERATIONS[step.name].is_signed and draws.negative[index, layer]:
                value = -value
            image = oracles.apply(step.name, image, value, semantics, draws.centers[index, layer])
    return image


@pytest.fixture(scope="module")
def make_augment(autoaugment):
    """make_augment(policy, semantics) -> (image, seed) -> image"""
    from efficientnet_tpu.data.kernels.prepare_image import prepare_image

    def make_augment(policy, semantics="reference"):
        draw_calls = autoaugment.make_draw_calls(policy, SIZE, semantics)
        return lambda image, seed: prepare_image(image, (SIZE, SIZE), calls=draw_calls(seed))

    return make_augment


def _in_dataset(tf, augment, image, count):
    seeds = tf.data.Dataset.range(count).map(lambda index: tf.stack([3, tf.cast(index, tf.int32)]))
    dataset = seeds.map(lambda seed: augment(tf.constant(image), seed), num_parallel_calls=2)
    assert dataset.element_spec == tf.TensorSpec([SIZE, SIZE, 3], tf.uint8)
    return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("semantics", ["reference", "pil"])
@pytest.mark.parametrize(
    "flags",  # --augment, and RandAugment's number of layers and magnitude
    [(augment,) for augment in AUTOAUGMENT_FLAGS]
    + [("randaugment", 2, 17), ("randaugment", 2, 28), ("randaugment", 1, 10), ("randaugment", 3, 7.5)],
)
def test_augmented_image_is_one_oracle_after_the_other(tf, make_augment, find_policy, draws_of, flags, semantics):
    policy = find_policy(*flags)
    image = photograph(SIZE, SIZE)
    results = _in_dataset(tf, make_augment(policy, semantics), image, 150)
    draws = draws_of(policy, 150)
    for index, result in enumerate(results):
        steps = [policy.rows[row] for row in draws.rows[index]]
        expected = _by_hand(policy, draws, index, image, semantics)
        assert np.array_equal(result, expected), (index, steps, draws.applied[index], draws.negative[index])
    assert len({result.tobytes() for result in results}) > 20  # not the same thing again and again


def test_augmenting_eagerly_is_augmenting_in_a_dataset(tf, make_augment, find_policy):
    image = photograph(SIZE, SIZE, 1)
    for policy in (find_policy("autoaugment"), find_policy("randaugment")):
        augment = make_augment(policy)
        for index, result in enumerate(_in_dataset(tf, augment, image, 10)):
            np.testing.assert_array_equal(augment(tf.constant(image), tf.constant([3, index])), result)


def test_the_seed_decides_all(tf, make_augment, find_policy):
    image = tf.constant(photograph(SIZE, SIZE))
    augment = make_augment(find_policy("randaugment", 3, 9))
    seeds = [(seed, position) for seed in range(4) for position in range(10)]
    results = [augment(image, tf.constant(seed)).numpy().tobytes() for seed in seeds]
    assert results == [augment(image, tf.constant(seed)).numpy().tobytes() for seed in seeds]
    # Either part of the seed makes another image.
    assert len({results[position] for position in range(10)}) >= 9
    assert len({results[10 * seed] for seed in range(4)}) == 4
