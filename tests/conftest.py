"""What every test shares: the environment TensorFlow starts in, and TensorFlow itself."""

import fcntl
import itertools
import os

# Before anything imports Keras or TensorFlow, as cli.run does.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

from efficientnet_tpu.installation import installed_version

LOGICAL_DEVICES = 4


def pytest_collection_modifyitems(items):
    """Skips the tests of WebP where TensorFlow does not read it."""
    release = installed_version("tensorflow") or installed_version("tensorflow-tpu") or ""
    for item in items if release.startswith("2.19.") else ():
        if item.get_closest_marker("webp") or (item.path.parent.name == "decoding" and "webp" in item.name.lower()):
            item.add_marker(pytest.mark.skip(reason="TensorFlow reads WebP from 2.20 on"))


@pytest.fixture(scope="session")
def tf():
    """TensorFlow on a CPU split into 4 devices, for multi-replica tests.

    Every test that touches TensorFlow takes this fixture, because the split must come before its first operation. It
    is imported here, so that the tests of the pure modules run without it.
    """
    import tensorflow

    cpu = tensorflow.config.list_physical_devices("CPU")[0]
    tensorflow.config.set_logical_device_configuration(
        cpu, [tensorflow.config.LogicalDeviceConfiguration() for _ in range(LOGICAL_DEVICES)]
    )
    # Every strategy numbers its collectives from the same start, and TensorFlow remembers them while the process lives:
    # those of one test would clash with another's.
    bases = itertools.count(step=1000)
    tensorflow.distribute.MirroredStrategy._collective_key_base = property(lambda strategy: next(bases))
    return tensorflow


CLASSES = ("circle", "square", "triangle")
# A recipe that learns CLASSES in a few seconds.
TINY_RECIPE = (
    "--model=efficientnet-nano", "--depth_coefficient=0.2", "--train_epochs=10", "--epochs_per_eval=5",
    "--train_batch_size=14", "--eval_batch_size=8", "--base_learning_rate=0.05", "--lr_warmup_epochs=0.5",
    "--dropout_rate=0.1", "--batch_norm_momentum=0.7", "--moving_average_decay=0.8", "--crop_min_area=0.5",
)  # fmt: skip


def _shape(name, generator):
    """uint8 [height, width, 3]: the figure in its colour on dark noise, somewhere near the centre."""
    height, width = generator.integers(36, 60, 2)
    rows, columns = np.mgrid[:height, :width]
    y, x = rows - height / 2 - generator.integers(-4, 5), columns - width / 2 - generator.integers(-4, 5)
    inside, colour = {
        "circle": (x**2 + y**2 < 144, (230, 40, 40)),
        "square": (np.maximum(abs(x), abs(y)) < 11, (40, 220, 40)),
        "triangle": ((abs(y) < 12) & (abs(x) < (y + 12) / 2), (40, 60, 240)),
    }[name]
    pixels = generator.integers(0, 60, (height, width, 3))
    return np.where(inside[..., np.newaxis], colour, pixels).astype(np.uint8)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """made_once(name, make) -> the path that `make(path)` has written to, once for all processes of a parallel run.

    Whoever comes second waits for the first. A process of pytest-xdist has a folder of its own within the run's.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def made_once(name, make):
        path, is_made = root / f"made_once_{name}" / name, root / f"made_once_{name}" / "is_made"
        path.parent.mkdir(exist_ok=True)
        with open(path.parent / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not is_made.exists():
                make(path)
                is_made.touch()
        return path

    return made_once


@pytest.fixture(scope="session")
def shapes(tf, made_once):
    """An image folder of three classes: 14 PNG and JPEG files each to train on, 5 to validate."""

    def make(root):
        generator = np.random.default_rng(0)
        for split, count in (("train", 14), ("validation", 5)):
            for name in CLASSES:
                (root / split / name).mkdir(parents=True)
                for index in range(count):
                    suffix, encode = ((".png", tf.io.encode_png), (".jpg", tf.io.encode_jpeg))[index % 2]
                    path = root / split / name / f"{index:02d}{suffix}"
                    path.write_bytes(encode(_shape(name, generator)).numpy())

    return made_once("shapes", make)


@pytest.fixture(scope="session")
def tiny_recipe():
    """Flags of a run that learns `shapes` in a few seconds; a later flag of the same name overrides."""
    return TINY_RECIPE


@pytest.fixture(scope="session")
def trained(shapes, made_once):
    """model_dir of a finished tiny run on `shapes`. Read it, do not write to it."""
    from efficientnet_tpu import cli

    recipe = ["main.py", f"--data_dir={shapes}", *TINY_RECIPE]
    return made_once("run", lambda path: cli.main([*recipe, f"--model_dir={path}"]))


@pytest.fixture(scope="session")
def exported(trained, made_once):
    """The SavedModel of the tiny run. Read it, do not write to it."""
    from efficientnet_tpu import cli

    command = ["main.py", "export", f"--model_dir={trained}"]
    return made_once("shapes_model", lambda path: cli.main([*command, f"--output_dir={path}"]))


@pytest.fixture(scope="session")
def weight_files(tf):
    """The module, which imports TensorFlow."""
    from tests.support import weight_files

    return weight_files


@pytest.fixture(scope="session")
def open_data(tf):
    """open_data(data_dir=..., ...) -> ImageData, by the flags of section Data."""
    from efficientnet_tpu.config.data import DataConfig
    from efficientnet_tpu.data import datasets

    return lambda **options: datasets.open_data(
        DataConfig(**{name: str(value) if name == "data_dir" else value for name, value in options.items()})
    )


@pytest.fixture(scope="session")
def mixup(tf):
    """The module, which imports TensorFlow."""
    from efficientnet_tpu.data.augment import mixup

    return mixup
