"""Weights of classes: what is balanced, what files may say, and that the loss is NumPy's however a batch is cut."""

import functools
import json
import types

import numpy as np
import pytest

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.errors import UserError
from tests.support.small_training import BATCH_SIZE, MIXING, NUM_CLASSES, Training, draw_batch, small

WEIGHTS = np.array([0.2, 3.0, 1.0, 0.5, 1.7], np.float32)
NAMES = ("cat", "dog", "eel")


@pytest.fixture(scope="module")
def class_weights(tf):
    from efficientnet_tpu.training import class_weights

    return class_weights


@pytest.fixture(scope="module")
def train_step(tf):
    from efficientnet_tpu.training import train_step

    return train_step


@pytest.fixture(scope="module")
def folder(tf, tmp_path_factory):
    """Images of NAMES as a set of files: 1, 3 and 8 for training."""
    root = tmp_path_factory.mktemp("animals")
    for name, count in zip(NAMES, (1, 3, 8), strict=True):
        for split, images in (("train", count), ("validation", 1)):
            (root / split / name).mkdir(parents=True)
            for index in range(images):
                pixels = np.full((8, 8, 3), index, np.uint8)
                (root / split / name / f"{index}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    return root


def data_of(**options):
    from efficientnet_tpu.data.datasets import open_data

    return open_data(DataConfig(**options))


# What sklearn.utils.class_weight.compute_class_weight("balanced", ...) 1.9 gives for the labels 0, 1 1 1, 2 x 8.
def test_balanced_as_scikit_learn_has_it(class_weights, folder):
    weights = class_weights.read_class_weights("balanced", data_of(data_dir=str(folder)))
    np.testing.assert_allclose(weights, [4.0, 1.3333333, 0.5], rtol=1e-6)
    assert weights.dtype == np.float32
    assert weights @ [1, 3, 8] / 12 == pytest.approx(1)
    line = class_weights.describe_class_weights("balanced", weights, NAMES)
    assert line == "class weights in the loss (balanced): cat 4, dog 1.33, eel 0.5"


def test_none(class_weights):
    assert class_weights.read_class_weights("none", None) is None
    assert class_weights.describe_class_weights("none", None, NAMES) == ""


def test_of_many_classes_the_extremes_are_printed(class_weights):
    weights = np.linspace(2, 0.5, 16, dtype="float32")
    line = class_weights.describe_class_weights("w.csv", weights, [f"c{index}" for index in range(16)])
    assert line == "class weights in the loss (w.csv): c15 0.5, ..., c0 2"


def test_balanced_needs_numbers_of_images(class_weights):
    with pytest.raises(UserError, match=r"--class_weights=balanced: .* only known of a folder .*FILE\.json"):
        class_weights.read_class_weights("balanced", data_of(dataset="sample"))
    with pytest.raises(UserError, match="the class dog has no training images"):
        class_weights.balanced(np.array([1, 0, 2]), NAMES)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w.json", '{"eel": 3, "cat": 1.5, "dog": 0.25}'),
        ("w.csv", "label,weight\neel,3\n\ncat,1.5\ndog,0.25\n"),
        ("W.CSV", "weight, Class, note\n3, eel,\n1.5, cat, rare\n0.25, dog,\n"),
        ("excel.csv", "\ufefflabel;weight\r\neel;3\r\ncat;1.5\r\ndog;0.25\r\n"),
        ("mark.json", '\ufeff{"eel": 3, "cat": 1.5, "dog": 0.25}\r\n'),
    ],
)
def test_files(class_weights, folder, tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    weights = class_weights.read_class_weights(str(tmp_path / name), data_of(data_dir=str(folder)))
    np.testing.assert_array_equal(weights, [1.5, 0.25, 3])


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("w.json", '{"cat": 1, "dog": 1}', "has no weight for the class eel"),
        ("w.json", '{"cat": 1, "dog": 1, "eels": 1, "eel": 1}', r"names eels, which is no class\. Did you mean eel\?"),
        ("w.json", '{"cat": 1, "cat": 2, "dog": 1, "eel": 1}', "says cat twice"),
        ("w.json", '{"cat": 0, "dog": 1, "eel": 1}', "the weight of cat is 0.0; it must be greater than 0"),
        ("w.json", '{"cat": NaN, "dog": 1, "eel": 1}', "has NaN, which is no number"),
        ("w.json", '{"cat": "1", "dog": 1, "eel": 1}', "the weight of cat is '1', not a number"),
        ("w.json", "[1, 2, 3]", "is not a JSON object"),
        ("w.json", "{", "Wanted is an object or a table"),
        ("w.json", "[" * 100_000, "Wanted is an object or a table"),
        ("w.csv", "name,weight\ncat,1\n", "does not name the columns label and weight"),
        ("w.csv", "", "does not name the columns label and weight"),
        ("w.csv", "label,weight\ncat,heavy\n", "line 2 has no name and number"),
        ("w.csv", "label,weight\ncat\n", "line 2 has no name and number"),
        ("w.txt", "", r"must be none, balanced, or a file ending in \.json or \.csv"),
    ],
)
def test_files_that_do_not_fit(class_weights, folder, tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"--class_weights={tmp_path / name}: .*{reason}"):
        class_weights.read_class_weights(str(tmp_path / name), data_of(data_dir=str(folder)))


def test_a_file_that_is_not_there_and_a_slip_of_the_pen(class_weights, folder):
    with pytest.raises(UserError, match=r"--class_weights=/gone\.csv: cannot be read"):
        class_weights.read_class_weights("/gone.csv", data_of(data_dir=str(folder)))
    with pytest.raises(UserError, match=r"Did you mean balanced\?"):
        class_weights.read_class_weights("balance", data_of(data_dir=str(folder)))


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_and_its_gradient_are_numpys(tf, smoothing):
    """Of mixtures: every part is an image of its own class, as smoothed, with that class's weight."""
    from efficientnet_tpu.training.loss import smoothed_cross_entropy

    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, (6, 5)).astype("float32")
    shares = draw.dirichlet(np.ones(2), 6)
    classes = draw.integers(0, 5, (6, 2))
    targets, expected, gradient = np.zeros((6, 5), np.float32), np.zeros(6), np.zeros((6, 5))
    for image in range(6):
        for share, label in zip(shares[image], classes[image], strict=True):
            targets[image, label] += share
            goal = np.full(5, smoothing / 5) + (1 - smoothing) * np.eye(5)[label]
            probabilities = softmax(logits[image : image + 1].astype("float64"))[0]
            expected[image] += share * WEIGHTS[label] * -(goal * np.log(probabilities)).sum()
            gradient[image] += share * WEIGHTS[label] * (probabilities - goal)
    given = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(given)
        losses = smoothed_cross_entropy(tf.constant(targets), given, smoothing, WEIGHTS)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(losses, given), gradient, rtol=1e-4, atol=1e-6)
    # Weights of one are none.
    same = smoothed_cross_entropy(tf.constant(targets), given, smoothing, np.ones(5, np.float32))
    np.testing.assert_allclose(same, smoothed_cross_entropy(targets, given, smoothing), rtol=1e-5)


def weighted(tf, train_step, **options):
    """A Training by WEIGHTS. Batch norm is frozen, so that an image's loss does not depend on its company."""
    steps = types.SimpleNamespace(
        make_state=train_step.make_state,
        make_train_step=functools.partial(train_step.make_train_step, class_weights=WEIGHTS),
        make_train_loop=train_step.make_train_loop,
    )
    usual = {"bn_mode": "frozen", "rate": 1e-3, "weight_decay": 0.0}
    return Training(tf, steps, small(dropout_rate=0.0, drop_rate=0.0), draw_batch(), **usual | options)


def test_the_loss_of_a_step_is_the_weighted_sum_over_the_number_of_images(tf, train_step):
    training = weighted(tf, train_step, label_smoothing=0.0)
    images, labels = draw_batch()
    probabilities = softmax(training.state.model(images, training=False).numpy().astype("float64"))
    training.run_eagerly(1)
    expected = (WEIGHTS[labels] * -np.log(probabilities[np.arange(BATCH_SIZE), labels])).sum() / BATCH_SIZE
    assert training.state.loss.result().numpy() == pytest.approx(expected, rel=1e-5)
    assert len(set(WEIGHTS[labels])) == NUM_CLASSES


@pytest.mark.slow
@pytest.mark.parametrize(
    "cut", [{"gradient_accumulation_steps": 4} | MIXING, {"virtual_replicas": 4}], ids=["micro-batches", "replicas"]
)
def test_parts_of_a_batch_are_the_batch(tf, train_step, cut):
    mixing = {name: cut[name] for name in MIXING if name in cut}
    whole, parts = weighted(tf, train_step, **mixing), weighted(tf, train_step, **cut)
    for training in (whole, parts):
        training.run_eagerly(3)
    for part, values in whole.values().items():
        for value, other in zip(values, parts.values()[part], strict=True):
            np.testing.assert_allclose(other, value, rtol=1e-5, atol=1e-6, err_msg=part)
    assert parts.state.loss.result().numpy() == pytest.approx(whole.state.loss.result().numpy(), rel=1e-5)


@pytest.mark.slow
def test_a_run_with_class_weights(shapes, tiny_recipe, tmp_path, capsys):
    from efficientnet_tpu import cli

    (tmp_path / "weights.json").write_text(json.dumps({"circle": 1e-3, "square": 1, "triangle": 1}))
    command = ["main.py", f"--data_dir={shapes}", *tiny_recipe, f"--model_dir={tmp_path}/run"]
    cli.main([*command, f"--class_weights={tmp_path}/weights.json"])
    printed = capsys.readouterr().out
    assert "weights.json): circle 0.001, square 1, triangle 1" in printed
    # It does not learn what does not count.
    cli.main(["main.py", "evaluate", f"--model_dir={tmp_path}/run", f"--report={tmp_path}/report"])
    lines = (tmp_path / "report" / "per_class.csv").read_text().splitlines()
    correct = {line.split(",")[0]: int(line.split(",")[2]) for line in lines[1:]}
    assert correct["circle"] == 0
    assert correct["square"] > 0
