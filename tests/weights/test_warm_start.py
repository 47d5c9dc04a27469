"""Training starts from weights that are there: all of them, but a classifier of other classes; or not at all."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.weights.readers.stored_tensor import in_memory

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"
CLASSES = ("circle", "square", "triangle")
TINY = {"width_coefficient": 0.1, "depth_coefficient": 0.3}
BUILT = {}  # architecture -> two networks of it, and their first weights


@pytest.fixture
def start(tf):
    """A function: (path, label names, model options) -> (line that was said, model, average, fresh weights)."""
    import keras

    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.weights.assign_weights import weights_by_name
    from efficientnet_tpu.weights.warm_start import start_from

    def start(path, label_names, options):
        config = with_options(Config(), options)
        architecture = configured_architecture(config.model, len(label_names))
        if architecture not in BUILT:
            keras.utils.set_random_seed(5)
            models = build_model(architecture), build_model(architecture)
            BUILT[architecture] = *models, [model.get_weights() for model in models]
        model, average, initial = BUILT[architecture]
        for one, weights in zip((model, average), initial, strict=True):
            one.set_weights(weights)
        fresh = {name: weight.numpy() for name, weight in weights_by_name(model).items()}
        said = start_from(str(path), model, average, config, label_names)
        for weight, shadow in zip(model.weights, average.weights, strict=True):
            np.testing.assert_array_equal(weight.numpy(), shadow.numpy())
        return said, {name: weight.numpy() for name, weight in weights_by_name(model).items()}, fresh

    return start


@pytest.fixture(scope="module")
def stored(trained):
    """(options of the model, averaged weights by name) of the tiny run."""
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.run import checkpoint, run_record
    from efficientnet_tpu.weights.assign_weights import weights_by_name

    config = run_record.load(str(trained)).config
    model = build_model(configured_architecture(config.model, 3))
    checkpoint.restore_average(model, str(trained), "best")
    options = {name: value for name, value in dataclasses.asdict(config.model).items() if value is not None}
    return options, {name: weight.numpy() for name, weight in weights_by_name(model).items()}


def test_a_run_of_the_same_classes_is_taken_whole(start, trained, stored):
    options, expected = stored
    said, weights, _ = start(trained, CLASSES, options | {"resolution": 64, "dropout_rate": 0.0})
    checkpoint = "best (and last )?checkpoint, step .*"
    assert re.fullmatch(
        f"starting from the weights in {trained}; {checkpoint}; the classifier of its 3 classes too", said
    )
    assert "--checkpoint" not in said
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize(("record", "which"), [("auto", "best"), ("last", "last"), ("best", "best")])
def test_which_checkpoint_is_taken_says_the_runs_record(trained, tmp_path, monkeypatch, record, which):
    from efficientnet_tpu.run import checkpoint, run_record
    from efficientnet_tpu.weights.warm_start import start_from

    def restore(model, path, which):
        raise UserError(f"{path} {which}")

    options = {"model_dir": str(tmp_path), "checkpoint": record}
    config = with_options(run_record.load(str(trained)).config, options)
    run_record.save(dataclasses.replace(run_record.load(str(trained)), config=config))
    for directory in ("best", "checkpoints"):
        (tmp_path / directory).symlink_to(trained / directory)
    monkeypatch.setattr(checkpoint, "restore_average", restore)
    with pytest.raises(UserError, match=f"^{tmp_path} {which}$"):
        start_from(str(tmp_path), None, None, config, CLASSES)


@pytest.mark.parametrize("label_names", [("a", "b", "c"), pytest.param(("a", "b"), marks=pytest.mark.slow)])
def test_other_classes_get_a_new_classifier(start, trained, stored, label_names):
    options, expected = stored
    said, weights, fresh = start(trained, label_names, options)
    assert said.endswith(f"the classifier of {len(label_names)} classes is new: those of the weights are 3 others")
    for name, value in weights.items():
        # Zero, so that it sends no gradient into what was trained before it has learned something.
        weight_file = np.zeros_like(value) if name.startswith("classifier/") else expected[name]
        np.testing.assert_array_equal(value, weight_file, err_msg=name)
        # What is fresh differs from what was trained.
        assert name.startswith("classifier/") or not np.array_equal(value, fresh[name]), name


@pytest.mark.parametrize(
    ("label_names", "rows", "words"),
    [
        (("triangle", "circle", "square"), (2, 0, 1), "the classifier of its 3 classes too"),
        pytest.param(
            ("triangle", "square"), (2, 1), "the classifier of 2 of its 3 classes too", marks=pytest.mark.slow
        ),
        (("circle", "oval", "square", "triangle"), (0, None, 1, 2), "of its 3 classes too, and 1 new classes"),
        pytest.param(
            ("circle", "oval"),
            (None, None),
            "the classifier of 2 classes is new: those of the weights are 3 others",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_classes_of_the_same_names_keep_their_part_of_the_classifier(start, trained, stored, label_names, rows, words):
    options, expected = stored
    said, weights, _ = start(trained, label_names, options)
    assert said.endswith(words)
    for name in ("classifier/kernel", "classifier/bias"):
        for label, row in enumerate(rows):
            wanted = 0 if row is None else expected[name][..., row]
            np.testing.assert_array_equal(weights[name][..., label], np.broadcast_to(wanted, weights[name].shape[:-1]))
    np.testing.assert_array_equal(weights["stem_conv/kernel"], expected["stem_conv/kernel"])


def test_numbers_are_no_names(tf):
    """That another data set has a class 0 too says nothing of what the class is."""
    from efficientnet_tpu.weights.warm_start import _rows_to_keep

    assert _rows_to_keep(("0", "1", "10", "2"), ("0", "1", "2", "10")) == (0, 1, 3, 2)
    assert _rows_to_keep(("0", "1"), ("0", "1", "2")) == (None, None)
    assert _rows_to_keep(("class 0", "class 1", "class 2"), ("class 0", "class 1")) == (None,) * 3


@pytest.mark.parametrize(
    "other",
    [
        {"batch_norm_epsilon": 1e-5},
        pytest.param({"model": "efficientnet-b0"}, marks=pytest.mark.slow),
        pytest.param({"depth_coefficient": 0.3}, marks=pytest.mark.slow),
    ],
)
def test_weights_of_another_model_are_refused(start, trained, stored, other):
    with pytest.raises(UserError, match=f"--init_from={trained}: holds the weights of efficientnet-nano"):
        start(trained, CLASSES, stored[0] | other)


def test_a_file_of_another_program(start, tf):
    from efficientnet_tpu.weights.weight_file import open_weight_file

    path = GOLDEN / "tf_efficientnet_b0_tiny.safetensors"
    said, kept, _ = start(path, CLASSES, TINY)
    assert said.endswith("the classifier of its 3 classes too")
    said, weights, fresh = start(path, ("a", "b"), TINY)
    assert said.endswith("the classifier of 2 classes is new: those of the weights are 3 others")
    with open_weight_file(str(path), configured_architecture(with_options(Config(), TINY).model, 3)) as weight_file:
        np.testing.assert_array_equal(kept["classifier/bias"], weight_file.tensors["classifier.bias"].read())
        np.testing.assert_array_equal(weights["stem_bn/gamma"], weight_file.tensors["bn1.weight"].read())
    assert not weights["classifier/kernel"].any()
    assert fresh["classifier/kernel"].all()


def test_a_file_without_classifier(start, tf, monkeypatch):
    from efficientnet_tpu.weights import weight_file

    read = weight_file.read_safetensors
    monkeypatch.setattr(
        weight_file,
        "read_safetensors",
        lambda path: {name: tensor for name, tensor in read(path).items() if not name.startswith("classifier")},
    )
    said, weights, fresh = start(GOLDEN / "tf_efficientnet_b0_tiny.safetensors", CLASSES, TINY)
    assert said.endswith("the classifier of 3 classes is new: the weights have no classifier")
    assert not weights["classifier/kernel"].any()
    assert not np.array_equal(weights["stem_conv/kernel"], fresh["stem_conv/kernel"])


@pytest.mark.slow
def test_a_file_of_a_thousand_classes_is_imagenets(tf, start, monkeypatch):
    from efficientnet_tpu.data.sources.imagenet_classes import imagenet_classes
    from efficientnet_tpu.weights import weight_file

    read = weight_file.read_safetensors
    biases = np.arange(1000, dtype=np.float32)
    head = {
        "classifier.weight": in_memory(np.full((1000, 128), 0.25, np.float32)),
        "classifier.bias": in_memory(biases),
    }
    monkeypatch.setattr(weight_file, "read_safetensors", lambda path: {**read(path), **head})
    path = GOLDEN / "tf_efficientnet_b0_tiny.safetensors"
    said, weights, _ = start(path, tuple(number for number, _ in imagenet_classes()), TINY)
    assert said.endswith("the classifier of its 1000 classes too")
    np.testing.assert_array_equal(weights["classifier/bias"], biases)
    said, weights, _ = start(path, ("n01440764", "n02012849", "n01443537"), TINY)
    assert said.endswith("the classifier of 3 of its 1000 classes too")
    np.testing.assert_array_equal(weights["classifier/bias"], [0, 134, 1])
    said, weights, _ = start(path, ("goldfish", "tench"), TINY)
    np.testing.assert_array_equal(weights["classifier/bias"], [1, 0])
    said, weights, _ = start(path, tuple(f"animal {index}" for index in range(1000)), TINY)
    assert "is new" in said
    assert weights["classifier/bias"][7] == 0


def test_what_is_not_there(start, tmp_path):
    with pytest.raises(UserError, match="no such file or directory"):
        start(tmp_path / "nothing", CLASSES, TINY)


@pytest.mark.slow
def test_on_several_replicas(tf, trained, stored):
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.weights.warm_start import start_from

    options, expected = stored
    config = with_options(Config(), options)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model, average = (build_model(configured_architecture(config.model, 3)) for _ in range(2))
    start_from(str(trained), model, average, config, CLASSES)
    for one in (model, average):
        for name in ("stem_conv/kernel", "stem_bn/moving_variance"):
            layer, variable = name.split("/")
            value = getattr(one.get_layer(layer), variable).value
            for replica in strategy.experimental_local_results(value):
                np.testing.assert_array_equal(replica.numpy(), expected[name])


@pytest.mark.slow
def test_training_starts_from_them_once(trained, shapes, tiny_recipe, tmp_path, capsys):
    from efficientnet_tpu import cli

    flags = (f"--data_dir={shapes}", f"--model_dir={tmp_path}/run", f"--init_from={trained}", *tiny_recipe)
    said = f"starting from the weights in {trained}; best"
    cli.main(["main.py", *flags, "--train_epochs=1", "--epochs_per_eval=1", "--base_learning_rate=1e-6"])
    first = capsys.readouterr().out
    assert said in first
    cli.main(["main.py", "evaluate", f"--model_dir={tmp_path}/run"])
    # Three steps at a rate next to nothing leave what was learned; a fresh network guesses one in three.
    assert float(re.search(r"top-1 ([\d.]+)%", capsys.readouterr().out)[1]) > 60
    cli.main(["main.py", *flags, "--train_epochs=2", "--epochs_per_eval=1"])
    assert said not in capsys.readouterr().out


def test_training_in_an_import_is_refused(shapes, tmp_path):
    from efficientnet_tpu import cli

    flags = [f"--{name}={value}" for name, value in TINY.items()]
    weight_file = f"--from={GOLDEN}/tf_efficientnet_b0_tiny.safetensors"
    cli.main(["main.py", "import-weights", weight_file, f"--output_dir={tmp_path}/imported", *flags])
    with pytest.raises(UserError, match=f"To start from them give --init_from={tmp_path}/imported and another"):
        cli.main(["main.py", f"--data_dir={shapes}", f"--model_dir={tmp_path}/imported", *flags])
