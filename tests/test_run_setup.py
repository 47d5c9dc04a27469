"""A run before its first step: which models and images are evaluated, and at which steps."""

import types

import pytest

from efficientnet_tpu.config.config import Config, with_options
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
