"""What does not fit a TPU by the planner's table is refused before it is rented or trained on."""

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.plan.answers.fitting_step import require_fitting_step, slice_of

V5E = parse_slice("v5e-8")


def checked(**options):
    return require_fitting_step(with_options(Config(), {"train_batch_size": 4096} | options), V5E, 1000)


def test_what_does_not_fit_is_refused_with_flags_that_fit():
    with pytest.raises(UserError, match=r"4096: does not fit: a core of v5e-8 needs .* GiB of 15\.75") as error:
        checked(model="efficientnet-b4")
    assert "--gradient_accumulation_steps=4 (the same batch; batch norm sees 128 images of a core at a time)" in str(
        error.value
    )
    assert "--tpu_type=" not in str(error.value)
    assert checked(model="efficientnet-b4", gradient_accumulation_steps=4) == ""
    assert checked(model="efficientnet-b4", memory_check=False) == ""


def test_what_is_not_sure_is_warned_of():
    assert checked(model="efficientnet-b0") == ""
    assert "too near the limit to be sure that it fits" in checked(model="efficientnet-b2")
    assert checked(model="efficientnet-b4", freeze="backbone").startswith("warning: ")


@pytest.mark.parametrize(
    ("kinds", "num_cores", "name"),
    [
        ("v5e", 8, "v5e-8"),
        ("v6e", 1, "v6e-1"),
        ("v2 or v3", 8, "v3-8"),
        ("v5p", 4, "v5p-8"),
        ("7x", 8, None),
        ("", 4, None),
    ],
)
def test_the_tpu_of_this_machine(kinds, num_cores, name):
    found = slice_of(kinds, num_cores)
    assert (found and found.name) == name
