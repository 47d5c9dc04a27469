"""Evaluation measures every image once, whatever the batch and however many devices."""

import json

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.models.compound_scaling import build_architecture

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
    from efficientnet_tpu.data.preprocessing import eval_image

    losses, top_1, top_5 = [], [], []
    for content, label in examples:
        logits = model(eval_image(content, RESOLUTION, 4)[np.newaxis]).numpy()[0].astype(np.float64)
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
        top_1.append(label == logits.argmax())
        top_5.append(label in np.argsort(-logits)[:5])
    return {
        "loss": np.mean(losses),
        "top_1_accuracy": np.mean(top_1),
        "top_5_accuracy": np.mean(top_5),
        "num_images": len(examples),
    }


@pytest.mark.parametrize(
    ("replicas", "batch_size"), [(0, 1), (0, 5), (0, 13), (0, 20), (4, 4), (4, 8), (4, 52), (4, 64)]
)
def test_results_are_those_of_a_plain_loop(evaluator, examples, replicas, batch_size):
    evaluate, model = evaluator(replicas, batch_size)
    expected = _by_hand(model, examples)
    assert 0 < expected["top_1_accuracy"] < expected["top_5_accuracy"] < 1  # it can tell right from wrong
    assert evaluate() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("replicas", [0, 4])
def test_a_second_evaluation_forgets_the_first_and_sees_the_new_weights(evaluator, examples, replicas):
    evaluate, model = evaluator(replicas, 8)
    first = evaluate()
    for weight in model.trainable_weights:
        weight.assign(weight * -2.0)
    second = evaluate()
    assert second == pytest.approx(_by_hand(model, examples), rel=1e-5)
    assert second["loss"] != pytest.approx(first["loss"], rel=0.01)


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
