"""From the bytes of an image file to a uint8 image of the model's size: crop, resize, flip, as in the reference.

Images leave the host as uint8 [size, size, 3], 0..255: a quarter of float32's traffic to the device, which normalises
them. Rounding to whole grey levels and clipping the bicubic kernel's overshoot is what that costs.
"""

import tensorflow as tf

MAX_CROP_ATTEMPTS = 10
ASPECT_RATIOS = (3 / 4, 4 / 3)
# Share of the image a training crop must cover of the (whole-image) bounding box.
MIN_OBJECT_COVERED = 0.1


def crop_padding(asked: int | None, size: int) -> int:
    """Padding of the evaluation crop for images of `size` pixels: as asked, else the reference's.

    32 from 224 pixels on, with which the published checkpoints were measured; 1/7 of smaller sizes, of which 32 would
    leave the centre only.
    """
    return min(32, round(size / 7)) if asked is None else asked


def train_image(
    encoded: tf.Tensor, seed: tf.Tensor, size: int, crop_min_area: float, eval_crop_padding: int, flip: bool
) -> tf.Tensor:
    """A random crop of random aspect, resized, perhaps mirrored.

    encoded: string scalar, a JPEG, PNG, GIF or BMP file; seed: int32 [2], decides every draw. Returns uint8
    [size, size, 3]. Where no crop of the asked area and aspect is found in 10 attempts, the evaluation crop is taken.
    """
    shape = _image_shape(encoded)
    seeds = tf.random.split(seed, 2)
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seeds[0],
        min_object_covered=MIN_OBJECT_COVERED,
        aspect_ratio_range=ASPECT_RATIOS,
        area_range=(crop_min_area, 1.0),
        max_attempts=MAX_CROP_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    random_window = tf.concat([begin[:2], extent[:2]], axis=0)
    gave_up = tf.reduce_all(tf.equal(extent[:2], shape[:2]))
    window = tf.where(gave_up, centre_window(shape, size, eval_crop_padding), random_window)
    image = resize(_decode_window(encoded, window), size)
    if flip:
        image = tf.image.stateless_random_flip_left_right(image, seeds[1])
    return image


def eval_image(encoded: tf.Tensor, size: int, eval_crop_padding: int) -> tf.Tensor:
    """The centre of the image, resized: string scalar -> uint8 [size, size, 3]."""
    window = centre_window(_image_shape(encoded), size, eval_crop_padding)
    return resize(_decode_window(encoded, window), size)


def eval_images(encoded: tf.Tensor, size: int, eval_crop_padding: int) -> tf.Tensor:
    """`eval_image` of a batch: string [batch] -> uint8 [batch, size, size, 3]. For serving."""
    signature = tf.TensorSpec([size, size, 3], tf.uint8)
    return tf.map_fn(lambda item: eval_image(item, size, eval_crop_padding), encoded, fn_output_signature=signature)


def centre_window(shape: tf.Tensor, size: int, padding: int) -> tf.Tensor:
    """Window [top, left, height, width] of the centre square with side size / (size + padding) of the shorter side."""
    height, width = shape[0], shape[1]
    side = tf.cast(size / (size + padding) * tf.cast(tf.minimum(height, width), tf.float32), tf.int32)
    side = tf.maximum(side, 1)
    return tf.stack([(height - side + 1) // 2, (width - side + 1) // 2, side, side])


def resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """Bicubic to a square, with the kernel of TensorFlow 1 that the published weights were trained on.

    TensorFlow 2's `tf.image.resize` centres its pixels elsewhere and differs by many grey levels. uint8 [h, w, 3] ->
    uint8 [size, size, 3].
    """
    resized = tf.raw_ops.ResizeBicubic(images=image[tf.newaxis], size=[size, size], half_pixel_centers=False)[0]
    return tf.ensure_shape(tf.saturate_cast(tf.round(resized), tf.uint8), [size, size, 3])


def _image_shape(encoded: tf.Tensor) -> tf.Tensor:
    """int32 [3]; of a JPEG without decoding it."""
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.image.extract_jpeg_shape(encoded),
        lambda: tf.shape(_decode(encoded)),
    )


def _decode_window(encoded: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """uint8 [height, width, 3] inside `window`; of a JPEG, only that part is decoded."""
    top, left, height, width = tf.unstack(window)
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.image.decode_and_crop_jpeg(encoded, window, channels=3),
        lambda: _decode(encoded)[top : top + height, left : left + width],
    )
    return tf.ensure_shape(image, [None, None, 3])


def _decode(encoded: tf.Tensor) -> tf.Tensor:
    """Any format TensorFlow reads, as uint8 [height, width, 3]; of an animation, the first frame."""
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)
