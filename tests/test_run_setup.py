"""A run before its first step: which models and images are evaluated, and at which steps."""

import types

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run.early_stopping import EarlyStopping


@pytest.fixture
def make_run(tf):
    """make_run(early_stopping, minival, **options) -> a run of 100 images and 25 steps, after its last evaluation."""
    from efficientnet_tpu.run_setup import Run

    def make(early_stopping=EarlyStopping(), minival=None, **options):  # noqa: B008
        return Run(
            config=with_options(Config(), {"train_batch_size": 10, "epochs_per_eval": 1, **options}),
            record=None,
            strategy=tf.distribute.get_strategy(),
            stop_request=None,
            data=types.SimpleNamespace(
                train=types.SimpleNamespace(num_images=100), minival=minival, validation="validation"
            ),
            architecture=None,
            schedule=types.SimpleNamespace(total_steps=25),
            state=types.SimpleNamespace(model="model", average="average"),
            metrics=None,
            checkpoints=types.SimpleNamespace(early_stopping=early_stopping),
            step=early_stopping.evaluated_step,
            class_weights=None,
        )

    return make


def test_the_average_is_evaluated_beside_the_weights_where_they_differ(make_run):
    assert make_run(moving_average_decay=0.99).evaluated_models == {"": "average", "raw_": "model"}
    assert make_run(moving_average_decay=0.0).evaluated_models == {"": "average"}


def test_a_minival_is_evaluated_instead_of_the_validation_images(make_run):
    assert make_run().evaluated_split == "validation"
    assert make_run(minival="minival").evaluated_split == "minival"


def test_evaluations_are_every_epoch_and_at_the_end(make_run):
    assert make_run().evaluation_steps == [10, 20, 25]
    assert make_run(EarlyStopping().after(10, 0.5)).evaluation_steps == [20, 25]
    assert make_run(EarlyStopping().after(25, 0.5)).evaluation_steps == []


def test_a_run_that_has_stopped_early_has_no_steps_left(make_run):
    worse = EarlyStopping().after(5, 0.5).after(10, 0.4)
    assert make_run(worse, early_stopping_patience=1).evaluation_steps == []
    assert make_run(worse, early_stopping_patience=2).evaluation_steps == [20, 25]


@pytest.fixture
def fitting_batch(tf, tmp_path):
    """fitting_batch(replicas, images, **options) -> (batch size that is trained with, the line about it)."""
    from efficientnet_tpu import run_setup
    from efficientnet_tpu.config.run import HardwareConfig
    from efficientnet_tpu.hardware import distribution

    def fit(replicas, num_images, **options):
        strategy = distribution.connect(HardwareConfig(virtual_replicas=replicas))
        config = with_options(Config(), {"data_dir": "/photos", "model_dir": str(tmp_path), **options})
        config, line = run_setup.with_fitting_batch(strategy, config, num_images)
        return config.train.train_batch_size, line

    return fit


@pytest.mark.parametrize(
    ("replicas", "num_images", "options", "expected"),
    [
        (0, 256, {}, 256),
        (0, 255, {}, 128),
        (0, 100, {}, 64),
        (0, 4, {}, 4),
        (0, 1, {}, 1),
        (0, 90, {"gradient_accumulation_steps": 3, "train_batch_size": 96}, 48),
        (4, 100, {}, 64),
        (4, 4, {}, 4),
        (4, 100, {"gradient_accumulation_steps": 3, "train_batch_size": 120}, 96),
    ],
)
def test_a_batch_is_not_larger_than_the_training_set(fitting_batch, replicas, num_images, options, expected):
    size, line = fitting_batch(replicas, num_images, **options)
    assert size == expected
    given = options.get("train_batch_size", 256)
    if size == given:
        assert line == ""
    else:
        start = f"--train_batch_size={given}: is more than the {num_images} training images of --data_dir=/photos: "
        assert line.startswith(start + f"batches of {size} are taken")


@pytest.mark.parametrize(
    ("replicas", "num_images", "options", "words"),
    [
        (4, 3, {}, "too few for 4 parts of a batch"),
        (0, 3, {"gradient_accumulation_steps": 4}, "too few for 4 parts of a batch"),
        (0, 1, {"mixup_alpha": 0.2}, "--train_batch_size=1: leaves a device fewer than 2 images"),
    ],
)
def test_images_that_fill_no_batch_are_refused(fitting_batch, replicas, num_images, options, words):
    with pytest.raises(UserError, match=words):
        fitting_batch(replicas, num_images, **options)


def test_a_run_that_began_with_too_large_a_batch_keeps_it(tf, fitting_batch, monkeypatch):
    from efficientnet_tpu import run_setup

    monkeypatch.setattr(run_setup, "_stored_batch_size", lambda config: 256)
    assert fitting_batch(0, 100) == (256, "")
    # A run that began with the smaller one continues by the same command.
    monkeypatch.setattr(run_setup, "_stored_batch_size", lambda config: 64)
    assert fitting_batch(0, 100)[0] == 64
