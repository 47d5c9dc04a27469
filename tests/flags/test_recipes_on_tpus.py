"""What the recipes say to add on a TPU VM: with it the step fits by the planner's table."""

import re
from pathlib import Path

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.plan import table
from efficientnet_tpu.plan.planner import Planner

RECIPES = sorted((Path(__file__).parents[2] / "flags").glob("efficientnet-*.flags"))
TYPES = ("v3-8", "v4-8", "v5e-8", "v5p-8", "v6e-8")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_with_what_a_recipe_says_to_add_its_step_fits(recipe):
    said = re.search(
        r"# One TPU VM, by `plan`: (.*?)\.\n# (?!  )", recipe.read_text().replace("\n#   ", " "), re.DOTALL
    )
    assert said, "the header has a line for each type"
    parts = dict(part.split(": ", 1) for part in said[1].split("; "))
    assert set(parts) == set(TYPES)
    rows = table.load(table.SHIPPED)
    for tpu_type, words in parts.items():
        if words == "does not fit":
            continue
        flags = [word for word in words.split() if word.startswith("--")]
        config = with_options(Config(), cli.parse([f"--flagfile={recipe}", *flags]).options)
        planner = Planner(config, configured_architecture(config.model, 1000), rows)
        planned = planner.plan(parse_slice(tpu_type), config.train.batch_size)
        assert planned.fits, tpu_type
        assert planned.is_near_limit == ("probably" in words), tpu_type
