"""The rate at every step is the reference implementation's, for the paper's recipe at any batch size."""

from fractions import Fraction

import numpy as np
import pytest

from efficientnet_tpu.config.train import LEARNING_RATE_SCHEDULES, TrainConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.training.learning_rate import SHAPES, Schedule, learning_rate, make_schedule, steps_per_epoch

IMAGENET = 1_281_167
BATCH_SIZES = [2**exponent for exponent in range(5, 16)]  # 32 .. 32768


def imagenet_schedule(batch_size, **options):
    """The recipe of the paper (the defaults of TrainConfig) at a batch size."""
    return make_schedule(TrainConfig(train_batch_size=batch_size, **options), IMAGENET)


def plain(shape, **fields):
    """A schedule of round numbers: rate 1, ten steps, no warm-up, poly to zero."""
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


def in_float32(schedule, steps):
    """The rates as the compiled step has them: from int64 steps, in float32."""
    from efficientnet_tpu.training.optimizer import ScheduledRate

    return ScheduledRate(schedule)(steps).numpy()


def test_the_end_of_the_warm_up_at_batch_4096(tf):
    rates = in_float32(imagenet_schedule(4096), np.arange(1560, 1566))
    assert rates == pytest.approx([0.25550864, 0.25567243, 0.2558362, 0.2408704, 0.2408704, 0.2408704], rel=2e-7)


def exact_decays(batch_size, steps):
    """floor(step / (2.4 epochs of steps)) as integers: step * batch * 5 over images * 12."""
    return np.asarray(steps, "int64") * batch_size * 5 // (IMAGENET * 12)


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_every_step_down_of_350_epochs_is_exact(tf, batch_size):
    schedule = imagenet_schedule(batch_size, lr_warmup_epochs=0)
    last = schedule.total_steps - 1
    downs = [-(-count * IMAGENET * 12 // (batch_size * 5)) for count in range(1, exact_decays(batch_size, last) + 1)]
    assert len(downs) == 145
    # Between two steps down nothing changes: the rate depends on the step by comparisons alone.
    steps = np.array([0, last, *(down + offset for down in downs for offset in (-1, 0, 1))])
    exact = 0.256 * batch_size / 4096 * 0.97 ** exact_decays(batch_size, steps)
    np.testing.assert_allclose(in_float32(schedule, steps), exact, rtol=1.2e-7)
    np.testing.assert_allclose(learning_rate(schedule, steps), exact, rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_every_step_of_350_epochs_is_exact(tf, batch_size):
    schedule = imagenet_schedule(batch_size, lr_warmup_epochs=0)
    treads = set()
    for first in range(0, schedule.total_steps, 100_000):
        steps = np.arange(first, min(first + 100_000, schedule.total_steps))
        decays = exact_decays(batch_size, steps)
        np.testing.assert_allclose(in_float32(schedule, steps), schedule.initial * 0.97**decays, rtol=1.2e-7)
        treads |= set(decays)
    assert treads == set(range(146))


def test_tensorflow_1_steps_down_early_where_we_do_not(tf):
    """117 decays end at step 87,830.005: float32 cannot tell it from 87,830."""
    steps = np.array([87_829, 87_830, 87_831])
    exact = 0.256 * 0.97 ** np.array([116, 116, 117])
    assert in_float32(imagenet_schedule(4096), steps) == pytest.approx(exact, rel=1.2e-7)
    theirs = tensorflow_1(tf, imagenet_schedule(4096), steps)
    assert theirs == pytest.approx(0.256 * 0.97 ** np.array([116, 117, 117]), rel=1e-5)


def test_step_down_exactly_at_a_whole_step():
    # 0.1 epochs of 30 steps are 3 steps; in binary 0.1 is a little more, and 3 * 0.1 * 30 the more so.
    schedule = make_schedule(TrainConfig(train_batch_size=10, lr_decay_epochs=0.1, lr_warmup_epochs=0), 300)
    downs = np.flatnonzero(np.diff(learning_rate(schedule, np.arange(100)))) + 1
    assert downs.tolist() == list(range(3, 100, 3))


def test_several_decays_in_one_step():
    rates = learning_rate(plain("exponential", decay_steps=Fraction(2, 5), total_steps=4), np.arange(4))
    assert rates.tolist() == [1, 0.5**2, 0.5**5, 0.5**7]


def test_lengths_are_those_of_the_numbers_typed():
    # In binary, 0.29 * 100 steps are 28.999999999999996.
    schedule = make_schedule(TrainConfig(train_batch_size=10, lr_warmup_epochs=0.29, train_epochs=0.57), 1000)
    assert (schedule.warmup_steps, schedule.total_steps) == (29, 57)


def tensorflow_1(tf, schedule, steps):
    """The rates that a TF1 graph of the reference's calls gives: float32, the step an int64."""
    initial, total = schedule.initial, schedule.total_steps
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.placeholder(tf.int64, ())
        if schedule.shape == "exponential":
            decayed = tf.compat.v1.train.exponential_decay(
                initial, step, float(schedule.decay_steps), schedule.decay_factor, staircase=True
            )
        elif schedule.shape == "poly":
            since = tf.maximum(tf.constant(1, tf.int64), step - schedule.warmup_steps)
            decayed = tf.compat.v1.train.polynomial_decay(
                initial, since, total - schedule.warmup_steps + 1, end_learning_rate=schedule.final, power=2.0
            )
        elif schedule.shape == "cosine":
            decayed = 0.5 * initial * (1 + tf.cos(np.pi * tf.cast(step, tf.float32) / total))
        else:
            decayed = tf.constant(initial)
        warming_up = initial * tf.cast(step, tf.float32) / tf.cast(schedule.warmup_steps, tf.float32)
        rate = tf.cond(step < schedule.warmup_steps, lambda: warming_up, lambda: decayed)
        return np.array([session.run(rate, {step: value}) for value in steps])


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_tensorflow_1(tf, shape):
    schedule = imagenet_schedule(4096, learning_rate_schedule=shape)
    steps = [*range(0, 109_474, 997), 1, 750, 751, 1562, 1563, 1564, 1565, 109_473]
    # 0.97 rounded to float32 and raised to the 145th is off by 4e-6 there. The cosine's end is a difference of numbers
    # near 1.
    tolerance = {"rtol": 5e-6} if shape == "exponential" else {"rtol": 1e-6, "atol": 1e-7 * schedule.initial}
    np.testing.assert_allclose(in_float32(schedule, steps), tensorflow_1(tf, schedule, steps), **tolerance)


def test_warm_up_does_not_delay_the_decay():
    steps = np.arange(1563, 109_474)
    with_warm_up = learning_rate(imagenet_schedule(4096), steps)
    without = learning_rate(imagenet_schedule(4096, lr_warmup_epochs=0), steps)
    assert np.array_equal(with_warm_up, without)


@pytest.mark.parametrize("shape", ["cosine", "constant"])
def test_warm_up_shifts_only_the_poly(shape):
    steps = np.arange(1563, 109_474)
    with_warm_up, without = (
        learning_rate(imagenet_schedule(4096, learning_rate_schedule=shape, lr_warmup_epochs=epochs), steps)
        for epochs in (5, 0)
    )
    assert np.array_equal(with_warm_up, without)


@pytest.mark.parametrize("shape", SHAPES)
def test_warm_up_is_linear_from_zero(shape):
    rates = learning_rate(plain(shape, warmup_steps=4), np.arange(4))
    assert rates.tolist() == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "poly"])  # whose clock starts at 1
def test_without_warm_up_the_first_step_has_the_whole_rate(shape):
    assert learning_rate(plain(shape), 0) == 1


def test_exponential():
    # Reference: 10 steps an epoch, halved every 2 epochs.
    rates = learning_rate(plain("exponential", total_steps=100), np.array([19, 20, 25, 70]))
    assert rates.tolist() == [1, 0.5, 0.5, 0.125]


def test_cosine_falls_to_zero_over_the_run():
    rates = learning_rate(plain("cosine"), np.array([0, 4, 5, 6, 10]))
    assert rates == pytest.approx([1, 0.654508, 0.5, 0.345491, 0], abs=1e-6)
    # The warm-up hides the cosine's beginning; it does not shift it.
    assert learning_rate(plain("cosine", warmup_steps=4), 5) == pytest.approx(0.5)


def test_constant():
    assert learning_rate(plain("constant", warmup_steps=2), np.arange(5)).tolist() == [0, 0.5, 1, 1, 1]


def test_poly_falls_as_a_parabola_from_the_end_of_the_warm_up():
    # 10 - 3 + 1 = 8 steps, counted from 1; the reference's first two steps have the same rate.
    rates = learning_rate(plain("poly", warmup_steps=3), np.arange(11))
    assert rates[3:] == pytest.approx([(1 - count / 8) ** 2 for count in (1, 1, 2, 3, 4, 5, 6, 7)])
    # It ends at `final`, whatever it began with.
    to_a_tenth = learning_rate(plain("poly", initial=6.4, final=0.1), np.array([0, 10]))
    assert to_a_tenth == pytest.approx([0.1 + 6.3 * (1 - 1 / 11) ** 2, 0.1 + 6.3 / 11**2])
    assert imagenet_schedule(32_768, learning_rate_schedule="poly").final == 0.1  # the reference's, unscaled


def test_poly_that_would_rise_is_refused():
    with pytest.raises(UserError, match=r"^--lr_end=0.1: is above the rate that poly starts from, 0.016 .*Lower"):
        imagenet_schedule(256, learning_rate_schedule="poly")
    assert imagenet_schedule(256, learning_rate_schedule="poly", lr_end=0.016).final == 0.016
    assert imagenet_schedule(256).initial < 0.1  # the others do not mind


@pytest.mark.parametrize("shape", SHAPES)
def test_an_array_of_steps_gives_what_each_step_gives(shape):
    schedule = plain(shape, warmup_steps=3, decay_steps=2.5)
    assert learning_rate(schedule, np.arange(11)).tolist() == [float(learning_rate(schedule, n)) for n in range(11)]


def test_shapes_are_the_flags_choices():
    assert tuple(SHAPES) == LEARNING_RATE_SCHEDULES


def test_a_run_has_at_least_one_step():
    assert make_schedule(TrainConfig(train_batch_size=256, train_epochs=0.001), 100).total_steps == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_agrees_with_float64_at_every_step(tf, shape):
    schedule = imagenet_schedule(4096, learning_rate_schedule=shape)
    steps = np.arange(schedule.total_steps)
    rates = in_float32(schedule, steps)
    assert rates.dtype == np.float32
    # The cosine's end is a difference of numbers near 1.
    np.testing.assert_allclose(rates, learning_rate(schedule, steps), rtol=3e-7, atol=1e-7 * schedule.initial)


@pytest.mark.parametrize("shape", SHAPES)
def test_compiles_with_xla(tf, shape):
    from efficientnet_tpu.training.optimizer import ScheduledRate

    schedule = imagenet_schedule(4096, learning_rate_schedule=shape)
    compiled = tf.function(ScheduledRate(schedule), jit_compile=True)
    for step in (0, 1562, 1563, 87_830, 87_831):
        rate = compiled(tf.constant(step, tf.int64))
        assert rate.numpy() == pytest.approx(learning_rate(schedule, step), rel=3e-7, abs=1e-7 * schedule.initial)
