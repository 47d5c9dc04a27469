"""The SavedModel that `export` writes: what programs with TensorFlow alone get from it, and foreign ones refused."""

import base64
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from efficientnet_tpu.errors import UserError
from tests.support.exported_run import CLASSES, class_files, run_probabilities

READER = """
import json, sys
import tensorflow as tf

directory, *paths = sys.argv[1:]
signatures = tf.saved_model.load(directory).signatures
answers = signatures["serving_default"](image_bytes=tf.constant([open(path, "rb").read() for path in paths]))
answers = {name: value.numpy().tolist() for name, value in answers.items()}
answers["class_names"] = [[name.decode() for name in row] for row in answers["class_names"]]
labels = signatures["label_names"]()["label_names"].numpy().tolist()
assert not any(name.startswith("efficientnet") for name in sys.modules)
print(json.dumps({"labels": [label.decode() for label in labels], **answers}))
"""
expected = pytest.fixture(scope="module")(run_probabilities)


@pytest.fixture(scope="module")
def files(shapes, tmp_path_factory):
    """A PNG and a JPEG of every class; then photographs of ten times the network's side, which are reduced."""
    small, folder = class_files(shapes), tmp_path_factory.mktemp("large")
    for path in small[:2]:
        picture = np.asarray(Image.open(path).convert("RGB").resize((410, 390)))
        noisy = picture + np.random.default_rng(0).normal(0, 60, picture.shape)
        Image.fromarray(np.uint8(np.clip(noisy, 0, 255))).save(folder / path.name)
    return [*small, *(folder / path.name for path in small[:2])]


@pytest.mark.slow
def test_a_program_with_tensorflow_alone_gets_the_same_answers(exported, files, expected, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", READER, str(exported), *map(str, files)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "custom gradients" not in done.stderr
    answers = json.loads(done.stdout)
    assert answers["labels"] == CLASSES
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-5)
    order = np.argsort(-expected, axis=1)
    assert answers["class_ids"] == order.tolist()
    assert answers["class_names"] == [[CLASSES[index] for index in row] for row in order]
    assert expected.max() > 0.5  # the answers are no coin tosses
    assert len(set(order[:, 0])) > 1


def test_signatures(tf, exported):
    signatures = tf.saved_model.load(str(exported)).signatures
    assert set(signatures) == {"serving_default", "images", "label_names", "prepare", "features"}
    inputs = {
        name: {
            key: (tuple(spec.shape), spec.dtype.name) for key, spec in signature.structured_input_signature[1].items()
        }
        for name, signature in signatures.items()
    }
    assert inputs == {
        "serving_default": {"image_bytes": ((None,), "string")},
        "images": {"images": ((None, 32, 32, 3), "uint8")},
        "label_names": {},
        "prepare": {"image_bytes": ((None,), "string")},
        "features": {"images": ((None, 32, 32, 3), "uint8")},
    }


def _serve_rest(tf, directory, body):
    """What TensorFlow Serving does with a request in row form: JSON -> the one input of serving_default -> JSON."""
    signature = tf.saved_model.load(directory).signatures["serving_default"]
    [(name, spec)] = signature.structured_input_signature[1].items()
    instances = [base64.b64decode(instance["b64"]) for instance in json.loads(body)["instances"]]
    outputs = {key: value.numpy() for key, value in signature(**{name: tf.constant(instances, spec.dtype)}).items()}
    assert {len(value) for value in outputs.values()} == {len(instances)}  # else it answers in columns
    as_json = {key: value.astype(str) if value.dtype == object else value for key, value in outputs.items()}
    rows = [{key: value[row].tolist() for key, value in as_json.items()} for row in range(len(instances))]
    return json.loads(json.dumps({"predictions": rows}))


def test_a_rest_request_as_tensorflow_serving_takes_it(tf, exported, files, expected):
    encoded = [{"b64": base64.b64encode(path.read_bytes()).decode()} for path in files]
    answer = _serve_rest(tf, str(exported), json.dumps({"instances": encoded}))
    for row, probabilities in zip(answer["predictions"], expected, strict=True):
        assert row["class_names"][0] == CLASSES[probabilities.argmax()]
        assert row["probabilities"] == pytest.approx(probabilities, abs=1e-5)


def test_weights_are_constants_of_the_graph(tf, exported):
    # TensorFlow rearranges what cannot change once, and not in every call.
    loaded = tf.saved_model.load(str(exported))
    assert not loaded.signatures["images"].captured_inputs
    assert not any("variables.data" in path.name and path.stat().st_size > 2000 for path in exported.rglob("*"))


def test_pixels_in_are_files_in_after_preprocessing(tf, exported, files, expected):
    from efficientnet_tpu.data.preprocessing import Preparation, eval_images

    images = eval_images(tf.constant([path.read_bytes() for path in files]), Preparation(32, 5))
    loaded = tf.saved_model.load(str(exported))
    np.testing.assert_allclose(loaded.signatures["images"](images=images)["probabilities"], expected, atol=1e-5)
    prepared = loaded.signatures["prepare"](image_bytes=tf.constant([path.read_bytes() for path in files]))["images"]
    np.testing.assert_array_equal(prepared, images)


def test_an_empty_batch_answers_empty(tf, exported):
    signatures = tf.saved_model.load(str(exported)).signatures
    empty = {
        "serving_default": {"image_bytes": tf.constant([], tf.string)},
        "images": {"images": tf.zeros([0, 32, 32, 3], tf.uint8)},
    }
    for name, inputs in empty.items():
        answer = signatures[name](**inputs)
        assert {key: tuple(value.shape) for key, value in answer.items()} == {
            "probabilities": (0, 3), "class_ids": (0, 3), "class_names": (0, 3),
        }, name  # fmt: skip


def test_bad_pictures_in_a_batch_are_named_by_their_numbers(tf, exported, files, expected):
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    good = [path.read_bytes() for path in files]
    cut = good[1][: len(good[1]) // 2]  # a JPEG
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"images \[1 3\] of the batch, counted from 0, cannot be"):
        signature(image_bytes=tf.constant([good[0], cut, good[1], b"<html>"]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"images \[0 1\] of the batch"):
        signature(image_bytes=tf.constant([b"", b"<html>"]))
    # One alone goes another way, and answers the same.
    alone = [signature(image_bytes=tf.constant([content]))["probabilities"][0] for content in good]
    np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_loaded_it_gives_the_runs_answers(exported, files, expected):
    from efficientnet_tpu.exporting import formats

    loaded = formats.load_exported(str(exported))
    assert list(loaded.label_names) == CLASSES
    np.testing.assert_allclose(loaded.probabilities([path.read_bytes() for path in files]), expected, atol=1e-5)


@pytest.mark.parametrize(("answer", "why"), [
    ({"label_names": [b"a", b"caf\xe9\n"]}, r"the class b'caf\\xe9\\n': its name is not UTF-8"),
    ({"label_names": [1.5, 2.0]}, "gives no list of names"),
    ({"label_names": "a"}, "gives no list of names"),
    ({"names": ["a"]}, "gives no list of names"),
])  # fmt: skip
def test_a_strangers_class_names(tf, tmp_path, answer, why):
    from efficientnet_tpu.exporting import formats

    module = tf.Module()
    spec = tf.TensorSpec([None], tf.string, name="image_bytes")
    classify = tf.function(lambda image_bytes: {"probabilities": tf.zeros([1, 2])}, input_signature=[spec])
    names = tf.function(lambda: {name: tf.constant(value) for name, value in answer.items()}, input_signature=[])
    signatures = {"serving_default": classify, "images": classify, "label_names": names}
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=signatures)
    with pytest.raises(UserError, match=f"was not written by `python main.py export`: .*{why}") as error:
        formats.load_exported(str(tmp_path / "model"))
    assert "\n" not in str(error.value)


def test_in_a_directory_whose_name_is_a_pattern(exported, files, expected, tmp_path):
    from efficientnet_tpu.exporting import formats

    copy = shutil.copytree(exported, tmp_path / r"[exp 1]\a*b?{c}")
    found = formats.load_exported(str(copy)).probabilities([path.read_bytes() for path in files])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_probabilities_sum_to_one(expected):
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)


def test_a_directory_without_a_saved_model(tmp_path):
    from efficientnet_tpu.exporting import formats

    with pytest.raises(
        UserError, match=f"--saved_model={tmp_path}: no SavedModel here. `python main.py export` writes one."
    ):
        formats.load_exported(str(tmp_path))


def test_a_foreign_saved_model(tf, tmp_path):
    from efficientnet_tpu.exporting import formats

    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "foreign"), signatures={"serving_default": module.double})
    with pytest.raises(
        UserError, match=f"--saved_model={tmp_path}/foreign: was not written by `python main.py export`"
    ):
        formats.load_exported(str(tmp_path / "foreign"))
