"""Fixtures of the tests of decoding."""

import pytest


@pytest.fixture(scope="module")
def image_format(tf):
    from efficientnet_tpu.data.decoding import image_format

    return image_format


@pytest.fixture(scope="module")
def decode(tf, image_format):
    """Returns `decode` as a function of an encoded image, in one graph; it returns uint8 [height, width, 3]."""
    function = tf.function(image_format.decode, input_signature=[tf.TensorSpec([], tf.string)])
    return lambda encoded: function(tf.constant(encoded)).numpy()
