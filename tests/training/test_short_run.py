"""What is chosen for a run of few steps: only what was left out, and nothing where there are enough steps."""

import pytest

from efficientnet_tpu.cli import parse
from efficientnet_tpu.config.config import Config, options_of, with_options
from efficientnet_tpu.installation import recipes
from efficientnet_tpu.training.ema import decay_at
from efficientnet_tpu.training.learning_rate import make_schedule
from efficientnet_tpu.training.short_run import batch_norm_momentum, epochs_per_evaluation, fitted

SHORT = {"train_batch_size": 64, "train_epochs": 18.0, "bn_mode": "train", "model_dir": "runs/b0", "data_dir": "photos"}


def fit(num_images, **options):
    config, lines = fitted(with_options(Config(), SHORT | options), num_images)
    return config.model.batch_norm_momentum, config.eval.epochs_per_eval, lines


@pytest.mark.parametrize(("num_updates", "momentum"), [
    (1, 0.8), (60, 0.8), (125, 0.8), (253, 0.9012), (1000, 0.975), (2499, 0.99), (2500, 0.99), (438_000, 0.99),
])  # fmt: skip
def test_batch_norm_forgets_its_first_statistics_in_a_fifth_of_the_run(num_updates, momentum):
    assert batch_norm_momentum(num_updates) == momentum
    assert momentum ** (num_updates / 5) < 0.01 or num_updates < 125


@pytest.mark.parametrize(("total_steps", "steps_in_epoch", "interval"), [
    (511, 1.46, 20), (350, 1.0, 20), (100, 1.0, 10), (60, 1.0, 6), (5, 1.0, 1), (253, 14.06, 20), (8, 2.0, 2),
    (7000, 20.0, 20), (109_480, 312.8, 312.8),
])  # fmt: skip
def test_evaluations_are_an_epoch_apart_and_some_steps(total_steps, steps_in_epoch, interval):
    from efficientnet_tpu.run.early_stopping import EarlyStopping, evaluation_steps

    epochs = epochs_per_evaluation(total_steps, steps_in_epoch)
    assert epochs >= 1
    assert epochs * steps_in_epoch == pytest.approx(interval, abs=0.002)
    steps = evaluation_steps(total_steps, epochs * steps_in_epoch, 0, EarlyStopping())
    assert steps[0] == -(-interval // 1)
    assert steps[-1] == total_steps


def test_a_short_run_is_told_so_and_what_would_serve():
    momentum, epochs, (few, chosen) = fit(900)
    assert (momentum, epochs) == (0.9012, 1.4222)
    assert few.startswith("note: 253 steps are few for a network that begins at random")
    command = "python main.py --flagfile=finetune --init_from=WEIGHTS --data_dir=photos --model_dir=runs/b0-finetuned"
    assert f"`{command}`" in few
    assert chosen == (
        "chosen for a run of 253 steps: --batch_norm_momentum=0.9012 in place of 0.99; "
        "--epochs_per_eval=1.4222 in place of 1; --lr_warmup_epochs=4.5 in place of 5; the average's decay rises to "
        "0.9658 by its ramp"
    )


@pytest.mark.parametrize(("train_epochs", "warmup"), [(0.5, 0.125), (3.0, 0.75), (19.9, 4.975), (20.0, 5), (350.0, 5)])
def test_a_warm_up_is_at_most_a_quarter_of_the_run(train_epochs, warmup):
    config = with_options(Config(), SHORT | {"train_epochs": train_epochs})
    chosen = fitted(config, 9000)[0].train
    assert chosen.lr_warmup_epochs == warmup
    assert make_schedule(chosen, 9000) == make_schedule(config.train, 9000)  # before it is stored, and after


def test_a_run_that_ends_in_its_warm_up_is_told_so():
    *_, lines = fit(9000, train_epochs=3.0, lr_warmup_epochs=5.0, epochs_per_eval=1.0, batch_norm_momentum=0.9)
    (line,) = (line for line in lines if line.startswith("--lr_warmup_epochs"))
    assert line.startswith("--lr_warmup_epochs=5: the run ends in its warm-up, at 60% of the learning rate; left out,")
    *_, lines = fit(9000, train_epochs=5.1, lr_warmup_epochs=5.0)
    assert not [line for line in lines if line.startswith("--lr_warmup_epochs")]


def test_what_is_set_stays():
    momentum, epochs, lines = fit(900, batch_norm_momentum=0.95, epochs_per_eval=0.5, lr_warmup_epochs=1.0)
    assert (momentum, epochs, len(lines)) == (0.95, 0.5, 1)
    momentum, _, (_, warning, _) = fit(900, batch_norm_momentum=0.99)
    assert momentum == 0.99
    assert warning.startswith("--batch_norm_momentum=0.99: the statistics that are evaluated will not follow 253 steps")


def test_micro_batches_move_the_statistics_too():
    assert fit(900, gradient_accumulation_steps=10)[0] == 0.99


@pytest.mark.parametrize("bn_mode", ["frozen", "recalibrate"])
def test_statistics_that_are_not_averaged_in_training_need_no_other_decay(bn_mode):
    momentum, _, lines = fit(900, bn_mode=bn_mode, init_from="weights")
    assert momentum == 0.99
    assert [line.partition(";")[0] for line in lines] == [
        "chosen for a run of 253 steps: --epochs_per_eval=1.4222 in place of 1"
    ]


def test_a_long_run_is_left_alone():
    assert fit(1_281_167, train_batch_size=4096, train_epochs=350.0) == (0.99, 1.0, [])


# Images of the sets that the recipes name.
SIZES = {"quickstart": 17_700, "finetune": 2982, "scaling-study": 50_000}


@pytest.mark.parametrize("name", [name for name in recipes() if not name.endswith(".json")])
def test_the_recipes_on_their_own_data_train_as_before(name):
    config = with_options(Config(), parse([f"--flagfile={name}"]).options)
    bn_mode = "frozen" if name == "finetune" else "train"
    config, lines = fitted(
        with_options(config, {"bn_mode": bn_mode, "init_from": "weights"}), SIZES.get(name, 1_281_167)
    )
    given = {**options_of(config), **parse([f"--flagfile={name}"]).options}
    assert config.model.batch_norm_momentum == given["batch_norm_momentum"]
    if not name.startswith(("transfer", "search", "paper")):  # those train for a short time, and say how
        assert config.model.batch_norm_momentum == 0.99
        assert config.eval.epochs_per_eval == {"finetune": 1, "scaling-study": 4, "small-images": 1}.get(name, 2)
        assert lines == []


@pytest.mark.parametrize("num_steps", [60, 253])
def test_the_average_follows_by_its_ramp(tf, num_steps):
    """The weights of the last third of a run make up most of its average, whatever the decay."""
    weight = 1.0
    for step in range(num_steps - num_steps // 3 + 1, num_steps + 1):
        weight *= float(decay_at(tf.constant(step), 0.9999))
    assert weight < 0.05
