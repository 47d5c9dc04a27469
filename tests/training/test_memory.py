"""The memory of a training, estimated from the list of convolutions."""

import dataclasses

import pytest

from efficientnet_tpu.config.train import OPTIMIZERS, TrainConfig
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.training.memory import SLOTS, MemoryModel, gradient_bytes, state_bytes

B0 = build_architecture("efficientnet-b0")
LITE0 = build_architecture("efficientnet-lite0")
MODEL = MemoryModel(B0, eval_batch_size=1, num_cores=1)


def host(model=MODEL, **options):
    return model.estimate(TrainConfig(**{"train_batch_size": 64} | options)).host


def test_every_optimizer_has_a_number_of_slots():
    assert set(SLOTS) == set(OPTIMIZERS)
    cost = count(B0)
    held = state_bytes(B0, "rmsprop")
    assert held.total == 4 * (2 * cost.total_params + 2 * cost.trainable_params)
    assert gradient_bytes(B0) == 4 * cost.trainable_params


def test_activations_grow_with_the_batch_and_its_micro_batches_hold_less():
    one, two, four = (host(train_batch_size=size) for size in (64, 128, 256))
    assert four - two == pytest.approx(2 * (two - one))
    parts = host(train_batch_size=256, gradient_accumulation_steps=4)
    assert one < parts < two  # the sums, and three times as many images


@pytest.mark.parametrize(
    ("model", "options", "less"),
    [
        (MODEL, {"rematerialize": "blocks"}, 0.3),
        (MODEL, {"bn_mode": "frozen"}, 0.2),
        (dataclasses.replace(MODEL, activation_bytes=2), {}, 0.2),
        (dataclasses.replace(MODEL, architecture=LITE0), {}, 0.2),  # ReLU6 keeps its output only, and there is no gate
        (dataclasses.replace(MODEL, frozen=frozenset(["stem", *(f"block_{i}" for i in range(16)), "head"])), {}, 0.7),
    ],
)
def test_what_is_not_kept_is_not_counted(model, options, less):
    step = [one.step_bytes(TrainConfig(**given)) for one, given in ((MODEL, {}), (model, options))]
    assert step[1] < (1 - less) * step[0]


def test_a_large_batch_of_evaluation_decides():
    model = dataclasses.replace(MODEL, eval_batch_size=1000)
    assert host(model, train_batch_size=1) > 2 * host(train_batch_size=1)
    assert host(model, train_batch_size=2) == pytest.approx(host(model, train_batch_size=1), rel=1e-3)


def test_a_gpu_holds_the_step_and_the_host_the_images():
    memory = dataclasses.replace(MODEL, on_gpu=True).estimate(TrainConfig(train_batch_size=64))
    assert 0 < memory.host < memory.device
    assert MODEL.estimate(TrainConfig(train_batch_size=64)).device == 0


def test_the_input_pipeline_holds_images():
    assert host(dataclasses.replace(MODEL, buffered_bytes=10**9)) == host() + 10**9
    assert host(dataclasses.replace(MODEL, num_cores=11)) > host() + 3e8
