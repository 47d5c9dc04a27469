"""Mixup's weights and arithmetic; and of mixup, cutmix and random erasing together, that the seed alone decides."""

import json
import math

import numpy as np
import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.train import TrainConfig
from tests.support.mixing import (
    as_tensors,
    black_and_white,
    draw_batch,
    mixed,
    own_shares,
    tf_seed,
    two_sample_kolmogorov_smirnov,
)

ALL_ON = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "random_erasing": 0.25}


def beta_distribution(alpha):
    """P(X < x), X ~ Beta(alpha, alpha): the series of the incomplete beta function on the lower half, and symmetry."""

    def lower(x):
        term = np.ones_like(x)
        total = term / alpha
        for k in range(1, 100):
            term = term * (k - alpha) / k * x
            total += term / (alpha + k)
        return x**alpha * total * math.exp(math.lgamma(2 * alpha) - 2 * math.lgamma(alpha))

    return lambda x: np.where(x < 0.5, lower(np.minimum(x, 0.5)), 1 - lower(np.minimum(1 - x, 0.5)))


# The sampler.


@pytest.mark.parametrize(
    ("alpha", "distribution"),
    [
        (0.5, lambda x: 2 / np.pi * np.arcsin(np.sqrt(x))),
        (1.0, lambda x: x),
        (2.0, lambda x: 3 * x**2 - 2 * x**3),
        (3.0, lambda x: 10 * x**3 - 15 * x**4 + 6 * x**5),
    ],
)
def test_the_series_is_the_known_distributions(alpha, distribution):
    x = np.linspace(0.001, 0.999, 999)
    np.testing.assert_allclose(beta_distribution(alpha)(x), distribution(x), rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.4, 0.5, 0.8, 1.0, 2.0, 3.0, 8.0])
def test_beta_has_its_distribution(tf, mixup, alpha):
    uniforms = (np.arange(2**19) + 0.5) / 2**20  # the lower half, exact in float32
    quantiles = mixup.beta_quantiles(alpha)
    x = mixup.beta(quantiles, tf.constant(uniforms, tf.float32)).numpy()
    assert x.dtype == "float32"
    assert np.all(np.diff(x) >= 0)
    normal = x > 1e-38  # what is smaller, processors take for zero
    assert np.mean(normal) > 0.98
    errors = abs(beta_distribution(alpha)(x.astype(float)) - uniforms)
    assert errors[normal].max() < 5e-5
    assert errors[uniforms > 0.02].max() < 1e-6
    # To the last bit, the upper half is the lower's mirror image.
    assert np.array_equal(mixup.beta(quantiles, tf.constant(1 - uniforms, tf.float32)), 1 - x)


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 100.0])
def test_beta_of_extreme_alphas(tf, mixup, alpha):
    uniforms = np.arange(2**16, dtype="float32") / 2**16
    x = mixup.beta(mixup.beta_quantiles(alpha), uniforms).numpy()
    assert np.all((x >= 0) & (x <= 1))
    assert np.var(x) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.01)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_weights_of_mixup_are_numpys_beta(mixup, alpha):
    own = own_shares(mixed(mixup, black_and_white(20_000, size=1), mixup_alpha=alpha)[1])
    assert own.min() >= 0.5
    draws = np.random.default_rng(0).beta(alpha, alpha, 200_000).astype("float32")
    assert two_sample_kolmogorov_smirnov(own, np.maximum(draws, 1 - draws)) < 1.95
    # Both of a pair draw their own.
    assert abs(np.corrcoef(own, own[::-1])[0, 1]) < 4 / math.sqrt(len(own))


# The arithmetic.


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_mixup_formula(tf, mixup, batch_size):
    images, targets = draw_batch(batch_size)
    shares = np.random.default_rng(1).uniform(0.5, 1, batch_size).astype("float32")
    mixed_images, mixed_targets = mixup.mix_up(tf.cast(images, tf.float32), tf.constant(targets), tf.constant(shares))
    assert mixed_images.dtype == mixed_targets.dtype == tf.float32
    for i in range(batch_size):
        j, share = batch_size - 1 - i, float(shares[i])
        np.testing.assert_allclose(mixed_images[i], share * images[i] + (1 - share) * images[j], rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(mixed_targets[i], share * targets[i] + (1 - share) * targets[j], atol=1e-6)


def test_mixup_is_before_normalisation_and_not_clipped_or_rounded(mixup):
    mixed_images, mixed_targets = mixed(mixup, black_and_white(8), mixup_alpha=1.0)
    white = mixed_targets[:, 1]
    expected = np.broadcast_to(255 * white[:, None, None, None], mixed_images.shape)
    np.testing.assert_allclose(mixed_images, expected, rtol=1e-5)
    assert len(np.unique(white)) == 8


# The whole.


def test_all_off_is_what_was_given(tf, mixup):
    images, targets = as_tensors(draw_batch(4))
    same_images, same_targets = mixup.make_mix(TrainConfig())(images, targets, tf_seed(0))
    assert same_images is images
    assert same_targets is targets


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 8])
def test_with_both_a_half_is_mixup_and_a_half_cutmix(mixup, batch_size):
    images, targets = draw_batch(batch_size)
    half = batch_size // 2
    mixed_images, mixed_targets = mixed(mixup, (images, targets), mixup_alpha=1.0, cutmix_alpha=1.0)
    first, second = (images[:half], targets[:half]), (images[half:], targets[half:])
    expected = mixed(mixup, first, mixup_alpha=1.0), mixed(mixup, second, cutmix_alpha=1.0)
    assert np.array_equal(mixed_images, np.concatenate([expected[0][0], expected[1][0]]))
    assert np.array_equal(mixed_targets, np.concatenate([expected[0][1], expected[1][1]]))
    # Pixels of cutmix are pixels of the image or its partner; those of mixup are between them.
    own_or_partners = (mixed_images[half:] == images[half:]) | (mixed_images[half:] == images[half:][::-1])
    assert own_or_partners.all()
    assert half < 2 or np.mean(mixed_images[:half] != np.round(mixed_images[:half])) > 0.5


OPTIONS = [{name: value} for name, value in ALL_ON.items()] + [ALL_ON]


@pytest.mark.parametrize("options", OPTIONS, ids=["mixup", "cutmix", "erasing", "all"])
@pytest.mark.parametrize("batch_size", [1, 2, 7, 16])
def test_images_and_targets_stay_images_and_targets(mixup, options, batch_size):
    batch = draw_batch(batch_size)
    images, targets = mixed(mixup, batch, **options)
    assert images.dtype == targets.dtype == "float32"
    assert (images.shape, targets.shape) == (batch[0].shape, batch[1].shape)
    assert images.min() >= 0
    assert images.max() <= 255
    assert targets.min() >= 0
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)


def test_alone_or_in_the_middle_an_image_stays_as_it_is(mixup):
    for batch_size, unmixed, options in [
        (1, 0, {"mixup_alpha": 1.0}), (1, 0, {"cutmix_alpha": 1.0}), (7, 3, {"mixup_alpha": 1.0}),
        (7, 3, {"cutmix_alpha": 1.0}), (7, 1, {"mixup_alpha": 1.0, "cutmix_alpha": 1.0}),
    ]:  # fmt: skip
        batch = draw_batch(batch_size)
        for part, given in zip(mixed(mixup, batch, **options), batch, strict=True):
            np.testing.assert_allclose(part[unmixed], given[unmixed], rtol=1e-6)


def draws_of(mixup, seed, **options):
    """What shows all draws of a step: where and how much, as a tuple of numbers."""
    images, targets = mixed(mixup, black_and_white(8), seed, **options)
    return (*targets[:, 0], *images[:, ::3, ::3, 0].ravel())


@pytest.mark.parametrize("options", OPTIONS, ids=["mixup", "cutmix", "erasing", "all"])
def test_the_seed_decides_the_draws(mixup, options):
    options = options | ({"random_erasing": 1.0} if "random_erasing" in options else {})
    first, again, other = (draws_of(mixup, seed, **options) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_every_draw_has_a_seed_of_its_own(mixup, monkeypatch):
    uniforms, names = mixup.draw_uniforms, []
    monkeypatch.setattr(
        mixup, "draw_uniforms", lambda seed, name, shape: names.append(name) or uniforms(seed, name, shape)
    )
    mixed(mixup, draw_batch(8), **ALL_ON)
    assert len(names) == len(set(names)) == 4
    draws = [tuple(uniforms(tf_seed(0), name, [4]).numpy()) for name in (*names, "dropout", "block_1_drop")]
    assert len(set(draws)) == 6


@pytest.mark.slow
def test_replicas_and_steps_draw_their_own(tf, mixup):
    from efficientnet_tpu.config.run import HardwareConfig
    from efficientnet_tpu.hardware.distribution import connect
    from efficientnet_tpu.training import train_step

    strategy = connect(HardwareConfig(virtual_replicas=4))
    mix = mixup.make_mix(TrainConfig(**ALL_ON | {"random_erasing": 1.0}))

    @tf.function
    def step(number):
        return strategy.run(lambda: mix(*as_tensors(black_and_white(8)), train_step._step_seed(0, number)))

    def results(number):
        mixed_images, mixed_targets = step(tf.constant(number, tf.int64))
        locals_of = strategy.experimental_local_results
        return [
            (image.numpy().tobytes(), target.numpy().tobytes())
            for image, target in zip(locals_of(mixed_images), locals_of(mixed_targets), strict=True)
        ]

    first, second = results(0), results(1)
    assert len({images for images, _ in first + second}) == 8
    assert len({targets for _, targets in first + second}) == 8
    assert results(0) == first


*SINGLE_OPTIONS, ALL_OPTIONS = OPTIONS
COMPILED = [ALL_OPTIONS, *(pytest.param(options, marks=pytest.mark.slow) for options in SINGLE_OPTIONS)]


@pytest.mark.parametrize("batch_size", [1, pytest.param(7, marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", COMPILED, ids=["all", "mixup", "cutmix", "erasing"])
def test_xla_compiles_it(tf, mixup, options, batch_size, monkeypatch):
    batch = draw_batch(batch_size)
    compiled = tf.function(mixup.make_mix(TrainConfig(**options)), jit_compile=True)
    images, targets = compiled(*as_tensors(batch), tf_seed(0))
    assert images.shape == batch[0].shape
    np.testing.assert_allclose(tf.reduce_sum(targets, 1), np.ones(batch_size), atol=1e-6)
    # It has generators of its own. From the same uniforms it makes the same.
    draw = np.random.default_rng(0)
    monkeypatch.setattr(
        mixup, "draw_uniforms", lambda seed, name, shape: tf.constant(draw.uniform(size=shape).astype("float32"))
    )
    compiled = tf.function(mixup.make_mix(TrainConfig(**options)), jit_compile=True)(*as_tensors(batch), tf_seed(0))
    draw = np.random.default_rng(0)
    for part, expected in zip(compiled, mixed(mixup, batch, **options), strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-4)


def test_mixed_images_are_normalised_in_float32(tf):
    """bfloat16 rounds what lies between two pixel values away."""
    import keras

    from efficientnet_tpu.hardware import distribution
    from efficientnet_tpu.models.compound_scaling import build_architecture
    from efficientnet_tpu.models.efficientnet import build_model

    with distribution.precision("mixed_bfloat16"):
        model = build_model(build_architecture("efficientnet-nano", depth_coefficient=0.2))
    normalised = keras.Model(model.input, model.get_layer("normalization").output)(tf.fill((1, 8, 8, 3), 200.3))
    assert normalised.dtype == tf.float32
    mean, std = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
    np.testing.assert_allclose(normalised[0, 0, 0], (200.3 - mean) / std, rtol=1e-5)


@pytest.mark.slow
def test_a_prolonged_run_is_the_longer_run_to_the_bit(tf, shapes, tiny_recipe, tmp_path):
    """The whole program with all three."""
    flags = [*tiny_recipe, "--epochs_per_eval=1", *(f"--{name}={value}" for name, value in ALL_ON.items())]
    for name, epochs in (("straight", 2), ("resumed", 1)):
        cli.main(
            ["main.py", f"--data_dir={shapes}", f"--model_dir={tmp_path}/{name}", *flags, f"--train_epochs={epochs}"]
        )
    cli.main(["main.py", f"--model_dir={tmp_path}/resumed", "--train_epochs=2"])  # the rest is in run.json
    config = json.loads((tmp_path / "resumed" / "run.json").read_text())["config"]
    assert {name: config[name] for name in ALL_ON} == ALL_ON
    straight, resumed = (
        tf.train.load_checkpoint(str(tmp_path / name / "checkpoints")) for name in ("straight", "resumed")
    )
    names = [name for name in straight.get_variable_to_shape_map() if "/.ATTRIBUTES/VARIABLE_VALUE" in name]
    assert len(names) > 300
    for name in names:
        if not name.startswith("save_"):
            assert np.array_equal(straight.get_tensor(name), resumed.get_tensor(name)), name
