import pytest

from efficientnet_tpu.run.reports.measurement import Measurement


@pytest.fixture
def measurement():
    return Measurement(
        images="validation",
        source="--data_dir=photos",
        fingerprint="3f2a91c45d6e7f80",
        resolution=192,
        crop=192 / 219,
        interpolation="bilinear",
        downscale="mean",
        weights="average",
        batch_norm="frozen",
        precision="float32",
    )


def evaluation(kind, step, accuracy, num_images=200.0, **others):
    values = {"top_1_accuracy": accuracy, "top_5_accuracy": 1.0, "loss": 2 - accuracy, "num_images": num_images}
    return {"kind": kind, "step": step, "epoch": step / 10, "time": 1.5e9 + step, **values, **others}


def training(step):
    values = {
        "loss": 3 / step,
        "top_1_accuracy": step / 100,
        "learning_rate": 0.1 / step,
        "images_per_second": 50.0 + step,
    }
    return {"kind": "train", "step": step, "epoch": step / 10, "time": 1.5e9 + step, **values, "data_wait_share": 0.0}


@pytest.fixture
def entries():
    """The log of a run of 40 steps whose best evaluation is the one before the last."""
    raw = {"raw_top_1_accuracy": 0.5, "raw_loss": 1.5}
    steps = ((10, 0.6), (20, 0.9), (30, 0.95), (40, 0.8))
    return [entry for step, top_1 in steps for entry in (training(step), evaluation("validation", step, top_1, **raw))]
