"""The exported SavedModel: what it answers to a program that knows TensorFlow only, and what is refused."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from efficientnet_tpu.config import UserError, with_options

CLASSES = ["circle", "square", "triangle"]
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


def _config(model_dir, **options):
    from efficientnet_tpu import run_record

    return with_options(run_record.load(str(model_dir)).config, {"model_dir": str(model_dir), **options})


@pytest.fixture(scope="module")
def files(shapes):
    """Paths of a PNG and a JPEG file of every class."""
    return [shapes / "validation" / name / file for name in CLASSES for file in ("00.png", "01.jpg")]


@pytest.fixture(scope="module")
def expected(trained, files):
    """float32 [files, classes]: what the run itself says of them."""
    from efficientnet_tpu import classifier

    return classifier.load_run(_config(trained)).probabilities([path.read_bytes() for path in files]).numpy()


def test_a_program_with_tensorflow_alone_gets_the_same_answers(exported, files, expected, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", READER, str(exported), *map(str, files)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
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
    assert set(signatures) == {"serving_default", "images", "label_names"}
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
    }


def test_pixels_in_are_files_in_after_preprocessing(tf, exported, files, expected):
    from efficientnet_tpu.data.preprocessing import eval_images

    images = eval_images(tf.constant([path.read_bytes() for path in files]), 32, 5)
    loaded = tf.saved_model.load(str(exported))
    np.testing.assert_allclose(loaded.signatures["images"](images=images)["probabilities"], expected, atol=1e-5)


def test_load_saved_model_gives_the_runs_answers(exported, files, expected):
    from efficientnet_tpu import classifier

    loaded = classifier.load_saved_model(str(exported))
    assert list(loaded.label_names) == CLASSES
    np.testing.assert_allclose(loaded.probabilities([path.read_bytes() for path in files]), expected, atol=1e-5)


def test_probabilities_sum_to_one(expected):
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_output_dir_that_exists_is_refused(trained, tmp_path, kind):
    from efficientnet_tpu import export

    output_dir = tmp_path / "out"
    output_dir.write_text("precious") if kind == "file" else output_dir.mkdir()
    with pytest.raises(UserError, match=f"--output_dir={output_dir}: exists already"):
        export.export_run(_config(trained, output_dir=f"{output_dir}/" if kind == "folder" else str(output_dir)))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_model_that_reads_back_otherwise_is_refused_and_removed(trained, exported, tmp_path, monkeypatch):
    from efficientnet_tpu import export

    serving = export.load_serving(_config(trained))
    bias = serving.model.get_layer("classifier").bias
    bias.assign(bias.numpy() + np.array([0.01, 0, 0]))
    monkeypatch.setattr(export, "load_serving", lambda config: serving)
    monkeypatch.setattr(
        export,
        "write_saved_model",
        lambda serving, directory: shutil.copytree(exported, directory, dirs_exist_ok=True),
    )
    with pytest.raises(RuntimeError, match=r"probabilities differ from the run's by 0\.00.*nothing was written to"):
        export.export_run(_config(trained, output_dir=f"{tmp_path}/out"))
    assert list(tmp_path.iterdir()) == []


def test_other_labels_are_a_difference(trained, exported):
    from efficientnet_tpu import classifier, export

    serving = classifier.load_serving(_config(trained))
    assert export.largest_difference(serving, str(exported)) <= export.TOLERANCE
    renamed = dataclasses.replace(serving, label_names=("square", "circle", "triangle"))
    assert np.isnan(export.largest_difference(renamed, str(exported)))


def test_a_difference_that_is_no_number_is_refused_and_removed(tf, trained, tmp_path, monkeypatch):
    from efficientnet_tpu import export

    monkeypatch.setattr(export, "write_saved_model", lambda serving, directory: tf.io.gfile.makedirs(directory))
    monkeypatch.setattr(export, "largest_difference", lambda serving, directory: float("nan"))
    with pytest.raises(RuntimeError, match="differ from the run's by nan"):
        export.export_run(_config(trained, output_dir=f"{tmp_path}/out"))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_a_saved_model(tmp_path):
    from efficientnet_tpu import classifier

    with pytest.raises(UserError, match=f"--saved_model={tmp_path}: no SavedModel here. `main.py export` writes one."):
        classifier.load_saved_model(str(tmp_path))


def test_a_foreign_saved_model(tf, tmp_path):
    from efficientnet_tpu import classifier

    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "foreign"), signatures={"serving_default": module.double})
    with pytest.raises(UserError, match=f"--saved_model={tmp_path}/foreign: was not written by `main.py export`"):
        classifier.load_saved_model(str(tmp_path / "foreign"))
