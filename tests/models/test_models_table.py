"""`main.py models` lists the published figures of every model."""

import json
from pathlib import Path

import pytest

from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.models.architecture import VARIANTS
from efficientnet_tpu.models.models_table import models_table

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "models.json").read_text())
PUBLISHED = [name for name in GOLDEN if not name.startswith("_")]


def test_table_shows_every_model():
    rows = {
        line.split()[0]: line.split()
        for line in models_table(ModelConfig()).splitlines()
        if line.startswith("efficientnet-")
    }
    assert list(rows) == list(VARIANTS)
    for name in PUBLISHED:
        golden, row = GOLDEN[name], rows[name]
        max_drop_rate = max(rate for _, rate in golden["drop_rate_residual_blocks"])
        assert row[1:5] == [str(golden[key]) for key in ("width", "depth", "resolution", "num_blocks")]
        assert row[5:7] == [f"{golden['params_trainable']:,}", f"{golden['macs']:,}"]
        assert row[8] == str(golden["dropout"])
        assert float(row[9]) == pytest.approx(max_drop_rate, abs=5.1e-5)


def test_table_adds_the_model_asked_for():
    asked = ModelConfig(model="efficientnet-b0", width_coefficient=1.1, depth_coefficient=1.2, resolution=260)
    (row,) = [line for line in models_table(asked).splitlines() if line.startswith("as asked for")]
    golden = GOLDEN["efficientnet-b2"]
    assert f"{golden['params_trainable']:,}" in row
    assert f"{golden['macs']:,}" in row
