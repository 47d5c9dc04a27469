"""Features of every export are those of the run: what the network gives to its last layer."""

import numpy as np
import pytest

SIZE = 32
FORMATS = {"savedmodel": 1e-4, "keras": 1e-4, "tflite": 1e-4, "onnx": 1e-4, "tflite-int8": None}


@pytest.fixture(scope="module")
def serving(tf):
    """A small network with random weights, of seven classes."""
    import keras

    from efficientnet_tpu.config.config import Config, with_options
    from efficientnet_tpu.data.preprocessing import Preparation
    from efficientnet_tpu.exporting.classifier import Serving
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.configured import configured_architecture

    keras.utils.set_random_seed(0)
    options = {"model": "efficientnet-nano", "depth_coefficient": 0.2, "resolution": SIZE}
    model = build_model(configured_architecture(with_options(Config(), options).model, 7))
    return Serving(model, tuple("abcdefg"), Preparation(SIZE, 5), 0)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_features_of_every_export(tf, serving, tmp_path, form):
    from efficientnet_tpu.exporting import formats
    from efficientnet_tpu.exporting.classifier import make_classifier
    from efficientnet_tpu.exporting.inference_model import inference_model

    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="comes with the extra onnx")
    images = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3)).astype(np.uint8)
    probabilities, features = map(np.asarray, make_classifier(serving).embed(tf.constant(images)))
    kernel, bias = serving.model.get_layer("classifier").get_weights()
    np.testing.assert_allclose(tf.nn.softmax(features @ kernel + bias), probabilities, atol=1e-5)

    directory = str(tmp_path / "out")
    tf.io.gfile.makedirs(directory)
    formats.write(form, inference_model(serving.model), serving, images, directory)
    if form == "savedmodel":  # whose digest `export` alone writes
        loaded = formats.load_written(form, directory).classifier
    else:
        loaded = formats.load_exported(*formats.written_paths(form, directory))
    found, embedded = loaded.embed(tf.constant(images))
    assert (embedded.dtype, embedded.shape) == (np.float32, features.shape)
    np.testing.assert_allclose(found, loaded.classify(tf.constant(images)), atol=1e-6)
    if FORMATS[form]:
        np.testing.assert_allclose(embedded, features, atol=FORMATS[form])
        np.testing.assert_allclose(found, probabilities, atol=1e-5)
    else:
        correlation = np.corrcoef(embedded.ravel(), features.ravel())[0, 1]
        assert correlation > 0.98


@pytest.mark.slow
def test_weights_as_constants_give_the_same_answers(tf, serving):
    from efficientnet_tpu.exporting import classifier

    images = tf.constant(np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3)).astype(np.uint8))
    few, many = (classifier.make_classifier(serving, count) for count in (1, classifier.FROZEN_FROM))
    np.testing.assert_allclose(many.classify(images), few.classify(images), atol=1e-6)
    for one, other in zip(many.embed(images), few.embed(images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
