"""Preparation of an image file as a uint8 image of the model's size: crop, resize, flip, as in the reference.

Images leave the host as uint8 [size, size, 3], 0..255, a quarter of float32's traffic; the device normalizes them. The
cost is rounding to whole levels and clipping the bicubic kernel's overshoot.

The reference resizes Lite's images bilinearly, but where a training finds no crop, and the center is taken instead,
by the bicubic kernel. Here all of a run's images are resized alike.

The reference leaves all shrinking to that kernel. Here what is far larger than the network's image is averaged first:
see `decoding.reduction`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.augment.autoaugment import DrawCalls, find_policy, make_draw_calls
from efficientnet_tpu.data.cache import reduced_picture
from efficientnet_tpu.data.decoding.image_format import AS_USUAL, Reading, Window, decode_window
from efficientnet_tpu.data.kernels.prepare_image import prepare_image
from efficientnet_tpu.data.kernels.tf_kernels import resize

MAX_CROP_ATTEMPTS = 10
ASPECT_RATIOS = (3 / 4, 4 / 3)
# Share of the image a training crop must cover of the (whole-image) bounding box.
MIN_OBJECT_COVERED = 0.1


@dataclass(frozen=True)
class Preparation:
    """How an image file becomes the pixels of an evaluation, and of a training but for its random draws.

    size: the side of the result. padding: of the evaluation crop, see `crop_padding`. reading: see `Reading`.
    interpolation: "bicubic" or "bilinear". downscale: one of DOWNSCALES. reduced: whether contents may be reduced
    pictures, see `Split.is_reduced`.
    """

    size: int
    padding: int
    reading: Reading = AS_USUAL
    interpolation: str = "bicubic"
    downscale: str = "mean"
    reduced: bool = False

    def window(self, encoded: tf.Tensor, choose_window: Window) -> tf.Tensor:
        """Decodes a window of an image file, reduced where that is asked: string scalar -> uint8 [height, width, 3].

        choose_window: see `decode_window`.
        """
        decode = reduced_picture.decode_window if self.reduced else decode_window
        return decode(encoded, choose_window, self.reading, self.size if self.downscale == "mean" else None)


def crop_padding(asked: int | None, size: int) -> int:
    """Returns the padding of the evaluation crop for images of `size` pixels: as asked, else the reference's.

    The published checkpoints were measured with 32, at 224 pixels and more. Of smaller images, 32 would leave only the
    center: they get 1/7 of the size.
    """
    return min(32, round(size / 7)) if asked is None else asked


def make_preparation(config: DataConfig, size: int, interpolation: str, reduced: bool = False) -> Preparation:
    """Returns the preparation that the flags name, for a network of that resolution and interpolation.

    reduced: see `Preparation`.
    """
    padding = crop_padding(config.eval_crop_padding, size)
    return Preparation(size, padding, reading_of(config), interpolation, config.downscale, reduced)


def reading_of(config: DataConfig) -> Reading:
    """Returns how the flags have files read."""
    return Reading(config.exif_orientation, config.background)


def make_train_image(
    config: DataConfig, size: int, interpolation: str = "bicubic", reduced: bool = False
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns `train_image` as configured: (encoded string scalar, seed int32 [2]) -> uint8 [size, size, 3].

    reduced: see `Preparation`.
    """
    policy = find_policy(config, size)
    return functools.partial(
        train_image,
        preparation=make_preparation(config, size, interpolation, reduced),
        crop_min_area=config.crop_min_area,
        flip=config.horizontal_flip,
        draw_calls=make_draw_calls(policy, size, config.augment_semantics) if policy else None,
    )


def train_image(
    encoded: tf.Tensor,
    seed: tf.Tensor,
    preparation: Preparation,
    crop_min_area: float,
    flip: bool,
    draw_calls: DrawCalls | None = None,
) -> tf.Tensor:
    """Crops at random, resizes, mirrors half of the images, then augments.

    encoded: string scalar, an image file; seed: int32 [2], which decides every draw. Returns uint8 [size, size, 3]. If
    10 attempts find no crop of the asked area and aspect, the evaluation crop is taken.
    """
    size = preparation.size
    return prepare_image(
        train_window(encoded, seed, preparation, crop_min_area),
        (size, size),
        mirrored=tf.random.stateless_uniform([], _other_seed(seed, 1)) < 0.5 if flip else None,
        # The reference truncates decimals before it augments; without augmentation it keeps them.
        truncate=draw_calls is not None,
        calls=draw_calls(_other_seed(seed, 2)) if draw_calls else None,
        interpolation=preparation.interpolation,
    )


def train_window(encoded: tf.Tensor, seed: tf.Tensor, preparation: Preparation, crop_min_area: float) -> tf.Tensor:
    """Decodes a random crop, reduced where it is large: string scalar -> uint8 [height, width, 3].

    seed: int32 [2]. See `train_image`.
    """

    def random_window(shape: tf.Tensor) -> tf.Tensor:
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            seed,
            min_object_covered=MIN_OBJECT_COVERED,
            aspect_ratio_range=ASPECT_RATIOS,
            area_range=(crop_min_area, 1.0),
            max_attempts=MAX_CROP_ATTEMPTS,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], extent[:2]], axis=0)
        gave_up = tf.reduce_all(tf.equal(extent[:2], shape[:2]))
        return tf.where(gave_up, center_window(shape, preparation.size, preparation.padding), window)

    return preparation.window(encoded, random_window)


def _other_seed(seed: tf.Tensor, number: int) -> tf.Tensor:
    """Returns a seed for further draws, int32 [2]: with the same seed, they would repeat the same numbers."""
    return tf.bitwise.bitwise_xor(seed, [number << 24, 0])


def eval_image(encoded: tf.Tensor, preparation: Preparation) -> tf.Tensor:
    """Resizes the center of an image file: string scalar -> uint8 [size, size, 3]."""
    size = preparation.size
    choose_window = functools.partial(center_window, size=size, padding=preparation.padding)
    window = preparation.window(encoded, choose_window)
    return resize(window, (size, size), interpolation=preparation.interpolation)


def eval_images(encoded: tf.Tensor, preparation: Preparation) -> tf.Tensor:
    """Prepares a batch for serving, as `eval_image` does: string [batch] -> uint8 [batch, size, size, 3].

    Raises InvalidArgumentError with the numbers of the images in the batch that cannot be read.
    """
    size = preparation.size

    def one() -> tf.Tensor:  # there is no other that it could be, and a dataset takes 3 ms to begin
        return eval_image(encoded[0], preparation)[tf.newaxis]

    def any_number() -> tf.Tensor:
        count = tf.size(encoded, out_type=tf.int64)

        def prepare(number: tf.Tensor, item: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return number, eval_image(item, preparation)

        # The only place where TensorFlow goes on after an error. It gives no empty batch: hence the image in front.
        items = tf.data.Dataset.from_tensor_slices(encoded).enumerate()
        images = items.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        front = tf.data.Dataset.from_tensors((tf.constant(-1, tf.int64), tf.zeros([size, size, 3], tf.uint8)))
        numbers, prepared = front.concatenate(images).batch(count + 1).get_single_element()
        is_read = tf.scatter_nd(numbers[1:, tf.newaxis], tf.ones_like(numbers[1:]), [count])
        bad = tf.where(is_read == 0)[:, 0]
        message = tf.strings.format("images {} of the batch, counted from 0, cannot be read", bad)
        with tf.control_dependencies([tf.debugging.Assert(tf.size(bad) == 0, [message])]):
            return prepared[1:]

    images = tf.cond(tf.equal(tf.size(encoded), 1), one, any_number)
    return tf.ensure_shape(images, [None, size, size, 3])


def center_window(shape: tf.Tensor, size: int, padding: int) -> tf.Tensor:
    """Returns the center square whose side is size / (size + padding) of the shorter side.

    shape: int32 [2] or more, height and width first. Returns int32 [4]: top, left, height, width.
    """
    height, width = shape[0], shape[1]
    side = tf.cast(size / (size + padding) * tf.cast(tf.minimum(height, width), tf.float32), tf.int32)
    side = tf.maximum(side, 1)
    return tf.stack([(height - side + 1) // 2, (width - side + 1) // 2, side, side])
