"""Evaluation measures every image once, whatever the batch and however many devices."""

import json
import re
import shutil

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.compound_scaling import build_architecture
from tests.support.labelled_images import write_shard

NUM_IMAGES, NUM_CLASSES, RESOLUTION = 13, 7, 16


@pytest.fixture(scope="module")
def examples(tf):
    """(PNG file, label) of 13 images of noise, larger than the model wants them."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (NUM_IMAGES, 20, 24, 3), np.uint8)
    labels = generator.integers(0, NUM_CLASSES, NUM_IMAGES)
    return [(tf.io.encode_png(image).numpy(), int(label)) for image, label in zip(images, labels, strict=True)]


@pytest.fixture(scope="module")
def split(tf, examples):
    from efficientnet_tpu.data.split import Split

    contents, labels = (tf.constant(values) for values in zip(*examples, strict=True))

    class InMemory(Split):
        num_images = NUM_IMAGES

        def handles(self, shard, order, first=0):
            return tf.data.Dataset.range(first, NUM_IMAGES)

        def load(self, handle):
            return contents[handle], labels[handle]

        def join(self, other):
            raise NotImplementedError

        def locate(self, shard, order, position):
            return f"image {position}"

    return InMemory()


@pytest.fixture(scope="module")
def evaluator(tf, split):
    """evaluator(replicas, batch_size) -> (function that evaluates, the model)."""
    import keras

    from efficientnet_tpu import evaluate
    from efficientnet_tpu.hardware import distribution
    from efficientnet_tpu.models.layers import BatchNormalization

    architecture = build_architecture("efficientnet-b0", resolution=RESOLUTION, num_classes=NUM_CLASSES)

    def make(replicas, batch_size):
        strategy = distribution.connect(HardwareConfig(virtual_replicas=replicas))
        keras.utils.set_random_seed(4)
        with strategy.scope():
            layers = [keras.layers.Rescaling(1 / 64), keras.layers.Conv2D(8, 3, 2), BatchNormalization()]
            head = [keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(NUM_CLASSES, kernel_initializer="normal")]
            model = keras.Sequential([keras.Input((None, None, 3)), *layers, *head])
        config = with_options(Config(), {"eval_batch_size": batch_size, "eval_crop_padding": 4})
        return evaluate.Evaluator(strategy, {"": model}, architecture, split, config), model

    return make


def _by_hand(model, examples):
    """The same numbers, image by image."""
    from efficientnet_tpu.data.preprocessing import Preparation, eval_image

    losses, top_1, top_5 = [], [], []
    for content, label in examples:
        logits = model(eval_image(content, Preparation(RESOLUTION, 4))[np.newaxis]).numpy()[0].astype(np.float64)
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
        top_1.append(label == logits.argmax())
        top_5.append(label in np.argsort(-logits)[:5])
    return {
        "loss": np.mean(losses),
        "top_1_accuracy": np.mean(top_1),
        "top_5_accuracy": np.mean(top_5),
        "num_images": len(examples),
    }


# One image, all images, more than all; on one device and on four.
OTHER_BATCHES = [(0, 1), (0, 13), (0, 20), (4, 4), (4, 52), (4, 64)]


@pytest.mark.parametrize(
    ("replicas", "batch_size"),
    [(0, 5), (4, 8), *(pytest.param(*one, marks=pytest.mark.slow) for one in OTHER_BATCHES)],
)
def test_results_are_those_of_a_plain_loop(evaluator, examples, replicas, batch_size):
    evaluate, model = evaluator(replicas, batch_size)
    expected = _by_hand(model, examples)
    assert 0 < expected["top_1_accuracy"] < expected["top_5_accuracy"] < 1  # it can tell right from wrong
    assert evaluate() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_a_second_evaluation_forgets_the_first_and_sees_the_new_weights(evaluator, examples, replicas):
    evaluate, model = evaluator(replicas, 8)
    first = evaluate()
    for weight in model.trainable_weights:
        weight.assign(weight * -2.0)
    second = evaluate()
    assert second == pytest.approx(_by_hand(model, examples), rel=1e-5)
    assert second["loss"] != pytest.approx(first["loss"], rel=0.01)


def test_a_batch_has_no_more_images_than_the_split(evaluator, monkeypatch):
    """13 images on 4 devices: 4 to each, once, where 256 would be padded with 243 black ones."""
    from efficientnet_tpu import evaluate as module

    evaluate, _ = evaluator(4, 256)
    asked = []
    monkeypatch.setattr(module, "eval_batches", lambda *args: asked.append(args[3:5]))
    evaluate._make_dataset(module.tf.distribute.InputContext(1, 0, 4))
    assert asked == [(4, 4)]


def test_top_5_of_fewer_classes_is_all(tf, split):
    from efficientnet_tpu.evaluate import make_metrics

    metric = make_metrics(tf.distribute.get_strategy(), 3)["top_5_accuracy"]
    metric.update_state([0, 1, 2], [[3.0, 2.0, 1.0]] * 3)
    assert float(metric.result()) == 1


@pytest.mark.parametrize("which", ["last", "best"])
def test_a_run_evaluates_as_it_did_in_training(trained, capsys, which):
    from efficientnet_tpu import evaluate
    from efficientnet_tpu.run import run_record

    validations = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    validations = [entry for entry in validations if entry["kind"] == "validation"]
    assert len(validations) == 2
    best = max(validations, key=lambda entry: (entry["top_1_accuracy"], entry["step"]))
    logged = {"last": validations[-1], "best": best}[which]
    config = with_options(run_record.load(str(trained)).config, {"checkpoint": which, "eval_batch_size": 7})
    results = evaluate.evaluate_run(config)
    assert results == pytest.approx({name: logged[name] for name in results}, rel=1e-4)
    assert results["num_images"] == 15
    assert f"efficientnet-nano at step {logged['step']} ({which} checkpoint)" in capsys.readouterr().out


@pytest.fixture
def evaluated(trained, capsys):
    """evaluated(flags...) -> the lines that `main.py evaluate` prints of the tiny run."""
    from efficientnet_tpu import cli

    def lines(*flags):
        cli.main(["main.py", "evaluate", f"--model_dir={trained}", "--eval_batch_size=8", *flags])
        return capsys.readouterr().out.splitlines()

    return lines


@pytest.mark.slow
def test_a_folder_and_a_list_without_splits_are_measured_whole(evaluated, shapes, tmp_path):
    files = sorted((shapes / "train").rglob("*.*"))
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in files))
    for data_dir in (shapes / "train", tmp_path / "list.csv"):
        *notes, _, result = evaluated(f"--data_dir={data_dir}")
        assert f"--data_dir={data_dir} has no validation images of its own: all of its images are measured" in notes
        assert re.search(r"^all: top-1 .* 42 of 42 images ", result)


@pytest.mark.slow
def test_splits_are_measured_by_name(evaluated, shapes, tmp_path):
    for split, folder in (("train", "Training"), ("validation", "val"), ("validation", "Testing")):
        (tmp_path / folder).symlink_to(shapes / split)
    (tmp_path / "Testing").unlink()
    shutil.copytree(shapes / "validation", tmp_path / "Testing")
    (tmp_path / "Testing" / "square" / "00.png").unlink()
    for flags, name, count in (([], "validation", 15), (["--eval_split=test"], "test", 14)):
        assert evaluated(f"--data_dir={tmp_path}", *flags)[-1].startswith(f"{name}: top-1 ")
        assert f" {count} of 71 images " in evaluated(f"--data_dir={tmp_path}", *flags)[-1]


def _numbers(line):
    """Top-1 and loss of an output's last line; three classes have no top-5."""
    return [float(number) for number in re.findall(r"(?:top-1|top-5|loss) ([\d.]+)", line)]


@pytest.mark.slow
def test_classes_in_another_order_are_matched_by_name(tf, evaluated, shapes, tmp_path):
    names = ("triangle", "circle", "square")  # as a labels.txt may have them
    for split in ("train", "validation"):
        files = sorted((shapes / split).rglob("*.*"))
        examples = [(path.read_bytes(), names.index(path.parent.name)) for path in files]
        write_shard(tf, tmp_path / f"{split}-00000-of-00001", examples)
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in names))
    assert _numbers(evaluated(f"--data_dir={tmp_path}")[-1]) == _numbers(evaluated()[-1])


@pytest.mark.slow
def test_a_subset_of_the_classes_is_measured_over_all_of_them_or_over_those(evaluated, shapes, tmp_path):
    for name in ("square", "triangle"):
        (tmp_path / name).symlink_to(shapes / "validation" / name)
    *notes, over_all = evaluated(f"--data_dir={tmp_path}")
    assert any("have 2 of the 3 classes of the run: measured over all 3; --eval_classes=" in note for note in notes)
    *notes, over_those = evaluated(f"--data_dir={tmp_path}", "--eval_classes=present")
    assert any("have 2 of the 3 classes of the run: measured over those 2" in note for note in notes)
    assert " 10 of 10 images " in over_all
    assert " 10 of 10 images " in over_those
    assert _numbers(over_those)[0] >= _numbers(over_all)[0]
    assert _numbers(over_those)[1] < _numbers(over_all)[1]  # what the third class took is shared by the two


def test_other_classes_are_named(evaluated, shapes, tmp_path):
    for name, other in (("square", "square"), ("triangle", "yak")):
        (tmp_path / other).symlink_to(shapes / "validation" / name)
    with pytest.raises(UserError, match=r"\(yak\) are not among the 3 .* also has circle, triangle\."):
        evaluated(f"--data_dir={tmp_path}")


def test_a_class_that_is_left_out_has_no_probability(tf):
    import keras

    from efficientnet_tpu.evaluate import leave_out_classes

    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, name="classifier", bias_initializer="normal")])
    features = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    before = model(features).numpy()
    leave_out_classes(model, (4, 1))
    logits = model(features).numpy()
    np.testing.assert_array_equal(logits[:, [1, 4]], before[:, [1, 4]])
    probabilities = tf.nn.softmax(logits).numpy()
    np.testing.assert_allclose(probabilities[:, [1, 4]], tf.nn.softmax(before[:, [1, 4]]).numpy(), rtol=1e-6)
    assert not probabilities[:, [0, 2, 3, 5]].any()
    assert tf.math.in_top_k(tf.constant([1, 4, 1, 4, 1]), logits, 2).numpy().all()


def test_a_folder_that_is_typed_is_measured_whatever_the_run_was_trained_on(tf, trained, shapes, tmp_path, monkeypatch):
    """A run of the embedded sample or of made-up images has a --dataset, which would go before."""
    from efficientnet_tpu import cli, evaluate

    shutil.copytree(trained, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    stored["config"] |= {"dataset": "fake:3:20:10", "data_dir": ""}
    (tmp_path / "run" / "run.json").write_text(json.dumps(stored))
    measured = []
    monkeypatch.setattr(evaluate, "evaluate_run", lambda config: measured.append(config.data.source))
    for flags in ([], [f"--data_dir={shapes}"], ["--dataset=sample"], [f"--data_dir={shapes}", "--dataset=sample"]):
        cli.main(["main.py", "evaluate", f"--model_dir={tmp_path}/run", *flags])
    assert measured == ["--dataset=fake:3:20:10", f"--data_dir={shapes}", "--dataset=sample", "--dataset=sample"]


@pytest.mark.slow
def test_images_of_one_class_are_measured(evaluated, shapes, tmp_path):
    (tmp_path / "square").symlink_to(shapes / "validation" / "square")
    assert " 5 of 5 images " in evaluated(f"--data_dir={tmp_path}")[-1]
