"""The rate at every step is the reference implementation's, for the paper's recipe at any batch size."""

import numpy as np
import pytest

from efficientnet_tpu.config import LEARNING_RATE_SCHEDULES, TrainConfig
from efficientnet_tpu.learning_rate import SHAPES, Schedule, learning_rate, make_schedule, steps_per_epoch

IMAGENET = 1_281_167


def imagenet_schedule(batch_size, **options):
    """The recipe of the paper (the defaults of TrainConfig) at a batch size."""
    return make_schedule(TrainConfig(train_batch_size=batch_size, **options), IMAGENET)


def plain(shape, **fields):
    """A schedule of round numbers: rate 1, ten steps, no warm-up."""
    fields = {"initial": 1.0, "warmup_steps": 0, "decay_steps": 20.0, "decay_factor": 0.5, "total_steps": 10} | fields
    return Schedule(shape=shape, **fields)


@pytest.mark.parametrize(
    ("batch_size", "epoch", "initial", "warmup_steps", "decay_steps", "total_steps"),
    [
        (4096, 312.784912, 0.256, 1563, 750.6838, 109_474),
        (2048, 625.569824, 0.128, 3127, 1501.3676, 218_949),
        (1024, 1251.139648, 0.064, 6255, 3002.7352, 437_898),
        (256, 5004.558594, 0.016, 25_022, 12010.9406, 1_751_595),
    ],
)
def test_recipe_of_the_paper(batch_size, epoch, initial, warmup_steps, decay_steps, total_steps):
    schedule = imagenet_schedule(batch_size)
    assert steps_per_epoch(IMAGENET, batch_size) == pytest.approx(epoch, abs=1e-6)
    assert schedule.shape == "exponential"
    assert schedule.initial == pytest.approx(initial)
    assert schedule.warmup_steps == warmup_steps
    assert schedule.decay_steps == pytest.approx(decay_steps, abs=1e-4)
    assert schedule.decay_factor == 0.97
    assert schedule.total_steps == total_steps


@pytest.mark.parametrize(
    ("batch_size", "rates"),
    [
        # The pairs: step 1, last of the warm-up, first after it, epoch 10, epoch 100, last of 350 epochs.
        (
            4096,
            {
                1: 1.63787588e-4, 1562: 0.2558362124, 1563: 0.2408704, 3128: 0.2266349594, 31_278: 0.07343127521,
                109_473: 0.003091301993,
            },
        ),
        (
            2048,
            {
                1: 4.093380237e-5, 3126: 0.1279590662, 3127: 0.1204352, 6256: 0.1133174797, 62_557: 0.0367156376,
                218_948: 0.001545650997,
            },
        ),
        (
            1024,
            {
                1: 1.023181455e-5, 6254: 0.06398976819, 6255: 0.0602176, 12_512: 0.05665873984, 125_114: 0.0183578188,
                437_897: 0.0007728254985,
            },
        ),
        (
            256,
            {
                1: 6.394372952e-7, 25_021: 0.01599936056, 25_022: 0.0150544, 50_046: 0.01416468496,
                500_456: 0.0045894547, 1_751_594: 0.0001932063746,
            },
        ),
    ],
)  # fmt: skip
def test_rates_of_the_paper(batch_size, rates):
    schedule = imagenet_schedule(batch_size)
    assert learning_rate(schedule, 0) == 0
    for step, rate in rates.items():
        assert learning_rate(schedule, step) == pytest.approx(rate, rel=1e-8), step


def test_decay_boundaries_of_the_paper():
    # Steps at which the exponent grows. The epoch is not rounded: the distance is 750 or 751.
    boundaries = [751, 1502, 2253, 3003, 3754, 4505, 5255, 6006, 6757, 7507, 8258]
    rates = learning_rate(imagenet_schedule(4096, lr_warmup_epochs=0), np.arange(8500))
    assert (np.flatnonzero(np.diff(rates)) + 1).tolist() == boundaries
    assert rates[boundaries] == pytest.approx(0.256 * 0.97 ** np.arange(1, 12))


def test_warm_up_does_not_delay_the_decay():
    steps = np.arange(1563, 109_474)
    with_warm_up = learning_rate(imagenet_schedule(4096), steps)
    without = learning_rate(imagenet_schedule(4096, lr_warmup_epochs=0), steps)
    assert np.array_equal(with_warm_up, without)


@pytest.mark.parametrize("shape", SHAPES)
def test_warm_up_is_linear_from_zero(shape):
    rates = learning_rate(plain(shape, warmup_steps=4), np.arange(4))
    assert rates.tolist() == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("shape", SHAPES)
def test_without_warm_up_the_first_step_has_the_whole_rate(shape):
    assert learning_rate(plain(shape), 0) == 1


def test_exponential():
    # Reference: 10 steps an epoch, halved every 2 epochs.
    rates = learning_rate(plain("exponential"), np.array([19, 20, 25, 70]))
    assert rates.tolist() == [1, 0.5, 0.5, 0.125]


def test_cosine_falls_to_zero_over_the_run():
    rates = learning_rate(plain("cosine"), np.array([0, 4, 5, 6, 10]))
    assert rates == pytest.approx([1, 0.654508, 0.5, 0.345491, 0], abs=1e-6)
    # The warm-up hides the cosine's beginning; it does not shift it.
    assert learning_rate(plain("cosine", warmup_steps=4), 5) == pytest.approx(0.5)


def test_constant():
    assert learning_rate(plain("constant", warmup_steps=2), np.arange(5)).tolist() == [0, 0.5, 1, 1, 1]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_array_of_steps_gives_what_each_step_gives(shape):
    schedule = plain(shape, warmup_steps=3, decay_steps=2.5)
    assert learning_rate(schedule, np.arange(11)).tolist() == [float(learning_rate(schedule, n)) for n in range(11)]


def test_shapes_are_the_flags_choices():
    assert tuple(SHAPES) == LEARNING_RATE_SCHEDULES


def test_a_run_has_at_least_one_step():
    assert make_schedule(TrainConfig(train_batch_size=256, train_epochs=0.001), 100).total_steps == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_in_keras_agrees_with_numpy(tf, shape):
    import keras

    schedule = imagenet_schedule(4096, learning_rate_schedule=shape)
    steps = np.arange(schedule.total_steps)
    exact = learning_rate(schedule, steps)
    rates = keras.ops.convert_to_numpy(learning_rate(schedule, keras.ops.cast(steps, "float32"), keras.ops))
    assert rates.dtype == np.float32
    # 1e-6 but for powers of 0.97, which float32 rounds before it raises it to the 145th.
    differ = ~np.isclose(rates, exact, rtol=1e-6 if shape != "exponential" else 5e-6, atol=1e-7 * schedule.initial)
    if shape == "exponential":
        # 117 decays end at step 87,830.005, and float32 takes that step down at 87,830.
        assert np.flatnonzero(differ).tolist() == [87_830]
        assert rates[87_830] == rates[87_831]
    else:
        assert not differ.any()
