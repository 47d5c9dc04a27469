"""The batch of a run: as many images as there are at most, and as memory holds."""

import dataclasses

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.host_memory import HostMemory
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.training.memory import MemoryModel

GB = 10**9


@pytest.fixture
def filled_batch(tf, tmp_path):
    """filled_batch(replicas, images, **options) -> (batch size that is trained with, the line about it)."""
    from efficientnet_tpu import fitting_batch, run_setup
    from efficientnet_tpu.config.run import HardwareConfig
    from efficientnet_tpu.hardware import distribution

    def fit(replicas, num_images, **options):
        strategy = distribution.connect(HardwareConfig(virtual_replicas=replicas))
        config = with_options(Config(), {"data_dir": "/photos", "model_dir": str(tmp_path), **options})
        config, line = fitting_batch.with_filled_batch(strategy, config, num_images)
        run_setup.require_even_shares(strategy, config)
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
def test_a_batch_is_not_larger_than_the_training_set(filled_batch, replicas, num_images, options, expected):
    size, line = filled_batch(replicas, num_images, **options)
    assert size == expected
    given = options.get("train_batch_size", 256)
    if size == given:
        assert line == ""
    else:
        start = f"--train_batch_size={given}: is more than the {num_images} training images of --data_dir=/photos: "
        assert line.startswith(start + f"batches of {size} are taken")


def test_a_batch_that_was_left_out_divides_over_micro_batches(filled_batch):
    assert filled_batch(0, 900) == (256, "")
    assert filled_batch(0, 900, gradient_accumulation_steps=3) == (192, "")


@pytest.mark.parametrize(
    ("replicas", "num_images", "options", "words"),
    [
        (4, 3, {}, "too few for 4 parts of a batch"),
        (0, 3, {"gradient_accumulation_steps": 4}, "too few for 4 parts of a batch"),
        (0, 1, {"mixup_alpha": 0.2}, "--train_batch_size=1: leaves a device fewer than 2 images"),
    ],
)
def test_images_that_fill_no_batch_are_refused(filled_batch, replicas, num_images, options, words):
    with pytest.raises(UserError, match=words):
        filled_batch(replicas, num_images, **options)


def test_a_run_that_began_with_too_large_a_batch_keeps_it(tf, filled_batch, monkeypatch):
    from efficientnet_tpu import fitting_batch

    monkeypatch.setattr(fitting_batch, "stored_batch_size", lambda config: 256)
    assert filled_batch(0, 100) == (256, "")
    # A run that began with the smaller one continues by the same command.
    monkeypatch.setattr(fitting_batch, "stored_batch_size", lambda config: 64)
    assert filled_batch(0, 100)[0] == 64


def test_on_a_tpu_a_new_run_that_does_not_fit_is_refused_and_one_that_has_begun_goes_on(tf):
    from efficientnet_tpu.fitting_batch import on_tpu

    config = with_options(Config(), {"model": "efficientnet-b7", "train_batch_size": 4096})
    with pytest.raises(UserError, match=r"a core of v6e-8 needs .* Add --gradient_accumulation_steps="):
        on_tpu(config, parse_slice("v6e-8"), 1000, has_begun=False)
    assert on_tpu(config, parse_slice("v6e-8"), 1000, has_begun=True) == []
    assert on_tpu(Config(), parse_slice("v6e-8"), 1000, has_begun=False) == []


MODEL = MemoryModel(build_architecture("efficientnet-b0", num_classes=10), eval_batch_size=16, num_cores=2)


@pytest.fixture
def fit(tf):
    """fit(GB there are, model=MODEL, **flags) -> (the batch of training, of evaluation, the lines)."""
    from efficientnet_tpu import fitting_batch

    def fit(gigabytes, model=MODEL, device=None, has_begun=False, **options):
        asked = with_options(Config(), {"eval_batch_size": model.eval_batch_size} | options)
        config = with_options(asked, {"train_batch_size": asked.train.batch_size})
        there_is = fitting_batch.Limits(HostMemory(int(gigabytes * GB), "are free"), device)
        may_change = asked.train.train_batch_size is None
        config, notes = fitting_batch.fitted(config, model, there_is, may_change, has_begun)
        return config.train.train_batch_size, config.eval.eval_batch_size, notes

    return fit


def needed(size, model=MODEL, **options):
    """GB that a batch of `size` takes at most."""
    train_config = with_options(Config(), {"train_batch_size": size} | options).train
    return 1.1 * model.estimate(train_config).host / GB


def test_what_fits_is_left_alone(fit):
    assert fit(1000) == (256, 16, [])
    assert fit(1000, train_batch_size=96) == (96, 16, [])


def test_a_batch_that_was_left_out_is_the_largest_power_of_two_that_fits(fit):
    for expected in (128, 64, 16):
        size, _, (note,) = fit(needed(expected) + 0.01)
        assert size == expected
        assert note.startswith(f"--train_batch_size=auto: a step of 256 images would need up to {needed(256):.1f} GB")
        assert note.endswith(f"batches of {expected} are taken, at their learning rate")


def test_a_batch_that_was_typed_is_refused_with_what_fits(fit):
    with pytest.raises(UserError) as refused:
        fit(needed(64) + 0.01, train_batch_size=256)
    message = str(refused.value)
    assert message.startswith(f"--train_batch_size=256: training needs up to {needed(256):.1f} GB, and ")
    assert f"{needed(64) + 0.01:.1f} GB are free. Give --train_batch_size=64, or " in message
    parts = int(message.partition("--gradient_accumulation_steps=")[2].split()[0])
    assert needed(256, gradient_accumulation_steps=parts) <= needed(64) + 0.01
    assert parts == 2 or needed(256, gradient_accumulation_steps=parts // 2) > needed(64) + 0.01
    assert "--nomemory_check trains all the same" in message
    assert "\n" not in message


def test_recomputing_is_named_where_it_fits(fit):
    enough = needed(64, rematerialize="blocks") + 0.01
    assert enough < needed(64)
    with pytest.raises(UserError, match="--rematerialize=blocks with the same batch"):
        fit(enough, train_batch_size=64)


def test_where_nothing_fits_a_smaller_network_is_named(fit):
    with pytest.raises(UserError, match=r"Give a smaller --model or --resolution"):
        fit(0.1)


def test_a_smaller_batch_of_evaluation_is_taken_first(fit):
    model = dataclasses.replace(MODEL, eval_batch_size=1000)
    smaller = dataclasses.replace(model, eval_batch_size=128)
    size, eval_size, (note,) = fit(needed(4, smaller) + 0.01, model, train_batch_size=4)
    assert (size, eval_size) == (4, 128)
    assert note.startswith("--eval_batch_size=1000: evaluation would need up to ")
    assert note.endswith("batches of 128 are evaluated, with the same result")


def test_a_run_that_has_begun_keeps_its_batches(fit):
    assert len(fit(0.1, dataclasses.replace(MODEL, eval_batch_size=8), train_batch_size=64, has_begun=True)[2]) == 1
    size, _, (note,) = fit(needed(16), train_batch_size=64, has_begun=True)
    assert size == 64
    assert note.startswith("warning: --train_batch_size=64, the run's own: training needs up to ")


def test_a_batch_is_shared_by_the_devices(fit):
    model = dataclasses.replace(MODEL, num_replicas=4, replicas_here=4)
    size, _, _ = fit(needed(32, model) + 0.01, model)
    assert size == 32
    # Each device has weights of its own.
    assert needed(32, model) > needed(32)


def test_the_memory_of_a_gpu_counts_too(fit):
    model = dataclasses.replace(MODEL, on_gpu=True)
    held = [1.1 * model.estimate(with_options(Config(), {"train_batch_size": size}).train).device for size in (32, 256)]
    size, _, (note,) = fit(1000, model, device=int(held[0]) + 1)
    assert size == 32
    assert f"up to {held[1] / GB:.1f} GB on a GPU, which has {held[0] / GB:.1f} GB" in note


def changes(there_is=1000.0, model=MODEL, **options):
    """What is named where a training of 64 images a step has run out of memory."""
    from efficientnet_tpu import fitting_batch

    config = with_options(Config(), {"train_batch_size": 64, "memory_check": True, **options})
    limits = fitting_batch.Limits(HostMemory(int(there_is * GB), "are free"))
    return fitting_batch.memory_changes(config, model, limits)


def test_out_of_memory_names_changes_that_take_clearly_less(tf):
    text = changes()
    parts = int(text.partition("--gradient_accumulation_steps=")[2].split()[0])
    size = int(text.partition("--train_batch_size=")[2].split()[0])
    for less in (needed(64, gradient_accumulation_steps=parts), needed(size)):
        assert less <= 0.8 * needed(64)
    assert needed(64, gradient_accumulation_steps=parts - 1) > 0.8 * needed(64)
    assert text.endswith(" and a new --model_dir")
    assert "bfloat16" not in text


def test_out_of_memory_on_a_gpu_names_narrow_numbers(tf):
    assert "--precision=bfloat16 with the same batch" in changes(model=dataclasses.replace(MODEL, on_gpu=True))
    narrow = dataclasses.replace(MODEL, on_gpu=True, activation_bytes=2)
    assert "bfloat16" not in changes(model=narrow)


def test_out_of_memory_names_nothing_that_is_more_than_there_is(tf):
    assert changes(there_is=0.1) == ""


def test_recomputing_is_not_named_where_it_is_on(tf):
    assert "--rematerialize" in changes(train_batch_size=512)
    assert "--rematerialize" not in changes(train_batch_size=512, rematerialize="blocks")
