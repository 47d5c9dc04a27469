"""Weights as other programs keep them, of networks small enough for tests, and the reference's own computation.

keras.applications' files are written by Keras itself. A TensorFlow 1 checkpoint is written by a graph whose variables
are named as the reference names them, and its answers are computed from the names, not from our model.
"""

import itertools

import keras
import numpy as np
import tensorflow as tf
from keras.src.applications import efficientnet as keras_efficientnet

from efficientnet_tpu.models.compound_scaling import build_architecture

WIDTH, DEPTH, CLASSES = 0.1, 0.3, 3
TINY_FLAGS = (f"--width_coefficient={WIDTH}", f"--depth_coefficient={DEPTH}")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def tiny(name="efficientnet-b0", classes=CLASSES):
    """Our record of the tiny network."""
    return build_architecture(name, classes, width_coefficient=WIDTH, depth_coefficient=DEPTH)


def images(count=3, size=(45, 38)):
    """uint8 [count, *size, 3]: blocks of colours; odd sides, so that `same` padding is uneven in some layers only."""
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (count, 5, 5, 3))
    rows, columns = np.arange(size[0]) * 5 // size[0], np.arange(size[1]) * 5 // size[1]
    return colours[:, rows][:, :, columns].astype(np.uint8)


def keras_applications(classes=CLASSES, imagenet=True, size=(45, 38)):
    """keras.applications' builder at the tiny width and depth, giving logits, with random weights everywhere.

    imagenet: with its normalisation as in the published weights, the deviation in place of the variance.
    """
    keras.backend.clear_session()  # the layer is called normalization, not normalization_7
    keras.utils.set_random_seed(0)
    model = keras_efficientnet.EfficientNet(
        WIDTH, DEPTH, 224, name="tiny", weights=None, classes=classes, classifier_activation=None,
        input_shape=(*size, 3),
    )  # fmt: skip
    randomise(model)
    if imagenet:
        normalization = model.layers[2]
        normalization.adapt_mean.assign(MEAN)
        normalization.adapt_variance.assign(STD)
        normalization.finalize_state()
    return model


def randomise(model):
    """Values under which the answer depends on every weight and on the image, as after a training.

    Fresh batch norm is the identity, and by it a fresh network answers nearly the same to all images: here its
    statistics are those of some pictures, then shaken.
    """
    random = np.random.default_rng(1)
    for layer in model.layers:
        for weight in layer.weights:
            if not layer.name.startswith("normalization"):
                weight.assign(_value(weight.name, weight.shape, random))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(images(8, model.input_shape[1:3]).astype(np.float32), training=True)
    for norm in norms:
        norm.momentum = 0.99
        norm.moving_mean.assign(_shaken_mean(norm.moving_mean.numpy(), norm.moving_variance.numpy(), random))
        # Of a few pictures, a channel may be nearly constant; dividing by that, no two programs would agree.
        norm.moving_variance.assign(norm.moving_variance * random.uniform(0.8, 1.25, norm.moving_variance.shape) + 0.02)


def _shaken_mean(mean, variance, random):
    return (mean + np.sqrt(variance) * random.uniform(-0.2, 0.2, mean.shape)).astype(np.float32)


def _value(name, shape, random):
    if name in ("gamma", "moving_variance"):
        return random.uniform(0.6, 1.4, shape)
    if len(shape) > 1:
        fan_in = np.prod(shape[:3]) if len(shape) == 4 and shape[3] != 1 else np.prod(shape[:2])
        return random.normal(0, (2 / fan_in) ** 0.5, shape)
    return random.normal(0, 0.3, shape)


def as_keras_imagenet(pixels):
    """Images that keras.applications' (x / 255 - mean) / sqrt(std), of a model without its last Rescaling, turns into
    what that Rescaling would have made of `pixels`.
    """
    return (255 * (MEAN + (pixels / 255 - MEAN) / np.sqrt(STD))).astype(np.float32)


# --- the reference's checkpoints


def reference_variables(architecture, seed=2):
    """Name -> value, as the reference calls its variables below the model's name."""
    random = np.random.default_rng(seed)
    variables = {}

    def add(name, shape):
        variables[name] = _value(name.rpartition("/")[2], shape, random).astype(np.float32)

    def norm(name, filters):
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            add(f"{name}/{part}", (filters,))

    add("stem/conv2d/kernel", (3, 3, 3, architecture.stem_filters))
    norm("stem/tpu_batch_normalization", architecture.stem_filters)
    for index, block in enumerate(architecture.blocks):
        convs, norms = (_numbered(f"blocks_{index}/{name}") for name in ("conv2d", "tpu_batch_normalization"))
        if block.expand_ratio != 1:
            add(f"{next(convs)}/kernel", (1, 1, block.input_filters, block.expanded_filters))
            norm(next(norms), block.expanded_filters)
        add(f"blocks_{index}/depthwise_conv2d/depthwise_kernel", (*[block.kernel_size] * 2, block.expanded_filters, 1))
        norm(next(norms), block.expanded_filters)
        if block.se_filters:
            add(f"blocks_{index}/se/conv2d/kernel", (1, 1, block.expanded_filters, block.se_filters))
            add(f"blocks_{index}/se/conv2d/bias", (block.se_filters,))
            add(f"blocks_{index}/se/conv2d_1/kernel", (1, 1, block.se_filters, block.expanded_filters))
            add(f"blocks_{index}/se/conv2d_1/bias", (block.expanded_filters,))
        add(f"{next(convs)}/kernel", (1, 1, block.expanded_filters, block.filters))
        norm(next(norms), block.filters)
    add("head/conv2d/kernel", (1, 1, architecture.blocks[-1].filters, architecture.head_filters))
    norm("head/tpu_batch_normalization", architecture.head_filters)
    add("head/dense/kernel", (architecture.head_filters, architecture.num_classes))
    add("head/dense/bias", (architecture.num_classes,))
    reference_logits(variables, architecture, images(8, (48, 48)), calibrate=random)
    return variables


def _numbered(name):
    """name, name_1, name_2, ..."""
    return (f"{name}_{number}" if number else name for number in itertools.count())


def reference_logits(variables, architecture, pixels, calibrate=None):
    """What the reference computes, by TensorFlow's operations on variables found by name.

    calibrate: generator to shake batch norm's statistics by, which become those of `pixels`; see `randomise`.
    """
    relu6 = architecture.activation == "relu6"
    act = tf.nn.relu6 if relu6 else tf.nn.silu

    def norm(x, name):
        if calibrate:
            mean, variance = (moment.numpy() for moment in tf.nn.moments(x, [0, 1, 2]))
            variables[f"{name}/moving_mean"] = _shaken_mean(mean, variance, calibrate)
            variables[f"{name}/moving_variance"] = variance * calibrate.uniform(0.8, 1.25, variance.shape).astype("f4")
        gamma, beta, mean, variance = (
            variables[f"{name}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)

    x = tf.constant((pixels - np.array(architecture.mean)) / np.array(architecture.std), tf.float32)
    x = act(norm(tf.nn.conv2d(x, variables["stem/conv2d/kernel"], 2, "SAME"), "stem/tpu_batch_normalization"))
    for index, block in enumerate(architecture.blocks):
        inputs = x
        convs, norms = (_numbered(f"blocks_{index}/{name}") for name in ("conv2d", "tpu_batch_normalization"))
        if block.expand_ratio != 1:
            x = act(norm(tf.nn.conv2d(x, variables[f"{next(convs)}/kernel"], 1, "SAME"), next(norms)))
        kernel = variables[f"blocks_{index}/depthwise_conv2d/depthwise_kernel"]
        x = tf.nn.depthwise_conv2d(x, kernel, [1, block.strides, block.strides, 1], "SAME")
        x = act(norm(x, next(norms)))
        if block.se_filters:
            gate = tf.reduce_mean(x, [1, 2], keepdims=True)
            for name, activation in (("conv2d", act), ("conv2d_1", tf.sigmoid)):
                where = f"blocks_{index}/se/{name}"
                gate = activation(
                    tf.nn.conv2d(gate, variables[f"{where}/kernel"], 1, "SAME") + variables[f"{where}/bias"]
                )
            x = gate * x
        x = norm(tf.nn.conv2d(x, variables[f"{next(convs)}/kernel"], 1, "SAME"), next(norms))
        if block.has_residual:
            x += inputs
    x = act(norm(tf.nn.conv2d(x, variables["head/conv2d/kernel"], 1, "SAME"), "head/tpu_batch_normalization"))
    return (tf.reduce_mean(x, [1, 2]) @ variables["head/dense/kernel"] + variables["head/dense/bias"]).numpy()


def save_tf1(variables, prefix):
    """A checkpoint of these names, as TensorFlow 1's Saver writes it."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [
            tf.compat.v1.get_variable(name, initializer=value, use_resource=False) for name, value in variables.items()
        ]
        session.run(tf.compat.v1.global_variables_initializer())
        return tf.compat.v1.train.Saver(made).save(session, prefix, write_meta_graph=False)
