"""`changes_step` of every option of a model and a training is what the step's own operations say."""

import json
import math
import re
from collections import Counter

import pytest

from efficientnet_tpu.config.config import OPTIONS, Config, with_options
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.plan.table import SHIPPED, load, make_step_key

STAGES = [
    {"repeats": 1, "kernel_size": 3, "strides": 2, "expand_ratio": 1, "filters": 8},
    {"repeats": 2, "kernel_size": 3, "strides": 1, "expand_ratio": 2, "filters": 8},
]
NETWORK = json.dumps({"stages": STAGES, "stem_filters": 8, "head_filters": 16})
BASE = {"stage_table": NETWORK, "resolution": 16, "train_batch_size": 16, "train_epochs": 50.0}
# A value of every option that a step with other operations has, or could be thought to have.
CHANGES = {
    "dropout_rate": 0.0, "survival_prob": 1.0, "precision": "float32", "gradient_accumulation_steps": 2,
    "rematerialize": "blocks", "fused_gradients": "off", "optimizer": "sgd", "momentum": 0.0,
    "gradient_clip_norm": 1.0, "mixup_alpha": 0.2, "cutmix_alpha": 1.0,
    "random_erasing": 0.25, "freeze": "stages:1", "layer_lr_decay": 0.9, "bn_mode": "frozen",
    "class_weights": "balanced",
}  # fmt: skip
# These change the network, and have fields of a key.
NETWORKS = {"model", "stage_table", "width_coefficient", "depth_coefficient", "resolution", "train_batch_size"}
# A constant of the step as well; but tables that users have made name it in their keys.
IN_OLDER_KEYS = {"moving_average_decay": 0.0}
# Constants of the step.
CONSTANTS = {
    "normalization": "lite", "interpolation": "bilinear", "batch_norm_momentum": 0.9, "batch_norm_epsilon": 1e-4,
    "base_learning_rate": 0.1,
    "rmsprop_decay": 0.8, "rmsprop_epsilon": 1e-4, "weight_decay": 1e-3, "lars_weight_decay": 1e-3,
    "lars_epsilon": 1e-3, "label_smoothing": 0.2, "init_from": "weights", "keep_checkpoints": 2,
}  # fmt: skip
# Scalars, and a staircase of some hundred of them.
SCHEDULE = {
    "train_epochs": 10.0, "learning_rate_schedule": "poly", "lr_decay_factor": 0.9, "lr_decay_epochs": 1.0,
    "lr_warmup_epochs": 0.0, "lr_end": 1e-5,
}  # fmt: skip


def operations(**options):
    """How often the lowered step has each operation, by shape of its result and name."""
    from efficientnet_tpu.plan.lowering import lower_train_step

    config = with_options(Config(), BASE | options)
    text = lower_train_step(configured_architecture(config.model, 10), config, 2, 1000).text
    found = re.findall(r"^\s*(?:ROOT )?%?[\w.\-]+ = (\(.*?\)|\S+) ([\w\-]+)\(", text, re.MULTILINE)
    assert len(found) > 1000
    return Counter((re.sub(r"\{[^}]*\}", "", shape), name) for shape, name in found)


def large(counts):
    """Those of a thousand numbers and more: images, activations, and what is as large."""
    return Counter(
        {
            (shape, name): count
            for (shape, name), count in counts.items()
            if any(
                1000 <= math.prod(map(int, dimensions.split(","))) for dimensions in re.findall(r"\[([\d,]+)\]", shape)
            )
        }
    )


def test_every_option_is_decided():
    decided = CHANGES.keys() | IN_OLDER_KEYS.keys() | NETWORKS | CONSTANTS.keys() | SCHEDULE.keys()
    assert decided == {name for name in OPTIONS if OPTIONS[name].section in ("model", "train")} | {"precision"}
    assert {
        name for name, option in OPTIONS.items() if option.changes_step
    } == CHANGES.keys() | IN_OLDER_KEYS.keys() | NETWORKS


@pytest.fixture(scope="module")
def base(tf):
    return operations()


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_step_has_other_operations(base, name):
    assert operations(**{name: CHANGES[name]}) != base


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["rmsprop", "lars", "adamw"])
def test_constants_leave_the_operations_as_they_are(tf, optimizer):
    changed = operations(optimizer=optimizer, **CONSTANTS, **IN_OLDER_KEYS)
    assert changed == operations(optimizer=optimizer)


@pytest.mark.slow
def test_the_schedule_leaves_what_is_large_as_it_is(base):
    changed = operations(**SCHEDULE)
    assert changed != base
    assert large(changed) == large(base)
    assert len(large(base)) > 50


@pytest.mark.parametrize(("name", "value"), (CHANGES | IN_OLDER_KEYS).items())
def test_a_change_is_in_the_key(name, value):
    tpu = parse_slice("v5e-8")
    keys = [make_step_key(with_options(Config(), options), tpu, 1024) for options in ({}, {name: value})]
    assert keys[0] != keys[1]


def test_what_changes_no_step_is_not_in_the_key():
    tpu = parse_slice("v5e-8")
    changed = with_options(Config(), CONSTANTS | SCHEDULE | {"seed": 3, "augment": "autoaugment", "bn_mode": "train"})
    assert make_step_key(changed, tpu, 1024) == make_step_key(Config(), tpu, 1024)


def test_the_shipped_table_has_the_default_recipe():
    key = make_step_key(Config(), parse_slice("v5e-8"), 1024)
    assert key in {row.key for row in load(SHIPPED)}
    assert key.recipe == "rmsprop bfloat16"


def test_the_order_of_options_in_a_recipe_does_not_matter():
    changes = {"rematerialize": "blocks", "mixup_alpha": 0.2, "gradient_clip_norm": 1.0}
    key = make_step_key(with_options(Config(), changes), parse_slice("v5e-8"), 1024)
    assert key.recipe == "rmsprop bfloat16 gradient_clip_norm=1.0 mixup_alpha=0.2 rematerialize=blocks"
