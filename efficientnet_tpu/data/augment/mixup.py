"""Mixup, cutmix and random erasing, inside the compiled training step, on whatever device it runs.

Images are pixels 0..255 before normalisation, targets one probability for each class. Shapes are static, and every draw
is a function of the step's seed alone.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.run import TrainConfig

# (images [batch, height, width, 3], targets float32 [batch, num_classes], seed int32 [2]) -> images, targets
Mix = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

# Zhong et al. 2017: share of the image's area, height / width, attempts to find a box that fits.
ERASED_AREA = (0.02, 1 / 3)
ERASED_ASPECT = (0.3, 1 / 0.3)
ERASING_ATTEMPTS = 10

# Linear between the exact quantiles of so many equal probabilities, a distribution is off by less than one of them.
_QUANTILES = 2**14


@dataclass(frozen=True)
class Boxes:
    """A box for each image: int32 [batch] each; rows top to bottom - 1 and columns left to right - 1 are inside."""

    top: tf.Tensor
    left: tf.Tensor
    bottom: tf.Tensor
    right: tf.Tensor


def make_mix(train_config: TrainConfig) -> Mix:
    """What the options ask for, decided here and not in the step. All off: gives back what it is given, uint8 images
    included; else images are float32 [batch, height, width, 3].

    Random erasing comes first, as it works on an image, then mixup or cutmix, as they work on pairs. With both, the
    first half of the (replica's) batch has mixup and the second cutmix, each half paired within itself, as
    EfficientNetV2 has it. Who is paired: image i and image batch - 1 - i; the middle one of an odd batch, and the only
    one of a batch of one, with itself, that is, it stays as it is.
    """
    parts: list[Mix] = []
    if train_config.random_erasing:
        parts.append(_random_erasing(train_config.random_erasing))
    if train_config.mixup_alpha and train_config.cutmix_alpha:
        parts.append(_halves(_mixup(train_config.mixup_alpha), _cutmix(train_config.cutmix_alpha)))
    elif train_config.mixup_alpha:
        parts.append(_mixup(train_config.mixup_alpha))
    elif train_config.cutmix_alpha:
        parts.append(_cutmix(train_config.cutmix_alpha))
    if parts:
        parts.insert(0, lambda images, targets, seed: (tf.cast(images, tf.float32), targets))

    def mix(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        for part in parts:
            images, targets = part(images, targets, seed)
        return images, targets

    return mix


def mix_up(images: tf.Tensor, targets: tf.Tensor, own_shares: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixup (Zhang et al. 2018) with the reversed batch: the weighted means of both images and both targets.

    own_shares: float32 [batch], the weight of an image itself.
    """
    shares = own_shares[:, tf.newaxis]
    mixed_targets = targets * shares + targets[::-1] * (1 - shares)
    shares = shares[:, tf.newaxis, tf.newaxis]
    return images * shares + images[::-1] * (1 - shares), mixed_targets


def cut_mix(images: tf.Tensor, targets: tf.Tensor, boxes: Boxes) -> tuple[tf.Tensor, tf.Tensor]:
    """CutMix (Yun et al. 2019): each image's box is pasted from the reversed batch, at the same place.

    A target's weights are the shares of the image's own pixels and of the box as it is. EfficientNetV2's code weights
    all targets by the mean area of the batch's boxes, so that no image has the label of what is seen in it: a bug.
    """
    _, height, width, _ = images.shape
    area = (boxes.bottom - boxes.top) * (boxes.right - boxes.left)
    pasted = tf.cast(area, tf.float32)[:, tf.newaxis] / (height * width)
    mixed_targets = targets * (1 - pasted) + targets[::-1] * pasted
    return tf.where(_inside(boxes, height, width), images[::-1], images), mixed_targets


def erase(images: tf.Tensor, boxes: Boxes, pixels: tf.Tensor) -> tf.Tensor:
    """The images with what is in their boxes replaced by `pixels`, of the images' shape and type."""
    _, height, width, _ = images.shape
    return tf.where(_inside(boxes, height, width), pixels, images)


def cutmix_boxes(areas: tf.Tensor, centres: tf.Tensor, height: int, width: int) -> Boxes:
    """The boxes of the paper's code: centred on any pixel, of the image's aspect, clipped where they leave the image.

    areas: float32 [batch], share of the image a box would have if it were not clipped; centres: float32 [batch, 2] in
    [0, 1), row and column as a share of height and width. Half a side is whole pixels, so that a box is a little
    smaller.
    """
    sides = tf.sqrt(areas)

    def extent(centre: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
        middle = tf.cast(centre * size, tf.int32)
        half = tf.cast(sides * size, tf.int32) // 2
        return tf.maximum(middle - half, 0), tf.minimum(middle + half, size)

    top, bottom = extent(centres[:, 0], height)
    left, right = extent(centres[:, 1], width)
    return Boxes(top, left, bottom, right)


def erasing_boxes(probability: float, uniforms: tf.Tensor, height: int, width: int) -> Boxes:
    """The boxes of random erasing: an area between 0.02 and 1/3 of the image's, an aspect between 0.3 and 1 / 0.3, by
    its logarithm, and a place where the box is whole; empty boxes for images that are not chosen.

    uniforms: float32 [batch, 3 + 2 * ERASING_ATTEMPTS] in [0, 1): whether, row, column, and for each attempt area and
    aspect. The first attempt that is smaller than the image counts; if none is, nothing is erased.
    """
    attempts = tf.reshape(uniforms[:, 3:], [-1, ERASING_ATTEMPTS, 2])
    smallest, largest = ERASED_AREA
    areas = height * width * (smallest + attempts[..., 0] * (largest - smallest))
    low, high = np.log(ERASED_ASPECT)
    aspects = tf.exp(low + attempts[..., 1] * (high - low))
    heights = tf.cast(tf.round(tf.sqrt(areas * aspects)), tf.int32)
    widths = tf.cast(tf.round(tf.sqrt(areas / aspects)), tf.int32)
    fits = (heights < height) & (widths < width)
    chosen = (uniforms[:, 0] < probability) & tf.reduce_any(fits, axis=1)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=1, output_type=tf.int32)

    def extent(sides: tf.Tensor, place: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
        side = tf.where(chosen, tf.gather(sides, first, batch_dims=1), 0)
        start = tf.cast(place * tf.cast(size - side + 1, tf.float32), tf.int32)
        return start, start + side

    top, bottom = extent(heights, uniforms[:, 1], height)
    left, right = extent(widths, uniforms[:, 2], width)
    return Boxes(top, left, bottom, right)


def beta_quantiles(alpha: float) -> np.ndarray:
    """The table by which `beta` draws: float32 [_QUANTILES + 1], the x in 0..1/2 below which a variable
    min(X, 1 - X), X ~ Beta(alpha, alpha), is with probability i / _QUANTILES.

    There is no compiled sampler: TensorFlow's gamma variates have no XLA kernel. By z = ln((1 - x) / x) the density is
    cosh(z / 2) to the power of -2 alpha: smooth, for every alpha, where that of x has poles. t is alpha * z.
    """
    t = np.linspace(0, 40 + np.sqrt(160 * alpha), 2**17)  # beyond it there is less than 1e-16
    density = np.exp(-t - 2 * alpha * (np.log1p(np.exp(-t / alpha)) - np.log(2)))
    beyond = np.append(np.cumsum((density[1:] + density[:-1])[::-1])[::-1], 0)
    t_at = np.interp(np.linspace(0, 1, _QUANTILES + 1), beyond[::-1] / beyond[0], t[::-1])
    odds = np.exp(-t_at / alpha)
    return (odds / (1 + odds)).astype("float32")


def beta(quantiles: np.ndarray, uniforms: tf.Tensor) -> tf.Tensor:
    """Draws from Beta(alpha, alpha), float32 [batch], of uniforms [batch] in [0, 1) and the table `beta_quantiles`."""
    table = tf.constant(quantiles)
    # The lower half of the uniforms gives x, the upper 1 - x.
    position = (1 - tf.abs(2 * uniforms - 1)) * _QUANTILES
    index = tf.minimum(tf.cast(position, tf.int32), _QUANTILES - 1)
    below, above = tf.gather(table, index), tf.gather(table, index + 1)
    x = below + (above - below) * (position - tf.cast(index, tf.float32))
    return tf.where(uniforms < 0.5, x, 1 - x)


def _mixup(alpha: float) -> Mix:
    quantiles = beta_quantiles(alpha)

    def mixup(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shares = beta(quantiles, _uniforms(seed, "mixup", [images.shape[0]]))
        return mix_up(images, targets, tf.maximum(shares, 1 - shares))

    return mixup


def _cutmix(alpha: float) -> Mix:
    quantiles = beta_quantiles(alpha)

    def cutmix(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch_size, height, width, _ = images.shape
        uniforms = _uniforms(seed, "cutmix", [batch_size, 3])
        areas = 1 - beta(quantiles, uniforms[:, 0])
        return cut_mix(images, targets, cutmix_boxes(areas, uniforms[:, 1:], height, width))

    return cutmix


def _halves(first: Mix, second: Mix) -> Mix:
    def mix(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        half = images.shape[0] // 2
        halves = first(images[:half], targets[:half], seed), second(images[half:], targets[half:], seed)
        mixed_images, mixed_targets = zip(*halves, strict=True)
        return tf.concat(mixed_images, axis=0), tf.concat(mixed_targets, axis=0)

    return mix


def _random_erasing(probability: float) -> Mix:
    """Fills with random pixels, the paper's best variant and timm's default: every channel of every pixel uniform in
    0..255, as in the paper. (timm's are normal, after normalisation, and may be brighter than white.)
    """

    def random_erasing(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch_size, height, width, _ = images.shape
        uniforms = _uniforms(seed, "random_erasing", [batch_size, 3 + 2 * ERASING_ATTEMPTS])
        pixels = tf.floor(256 * _uniforms(seed, "random_erasing_pixels", images.shape))
        return erase(images, erasing_boxes(probability, uniforms, height, width), pixels), targets

    return random_erasing


def _uniforms(seed: tf.Tensor, name: str, shape: list[int]) -> tf.Tensor:
    """float32 in [0, 1), from a seed that no other name has, as the step's dropout layers have theirs."""
    seed = tf.random.experimental.stateless_fold_in(seed, zlib.crc32(name.encode()) & 0x7FFFFFFF)
    return tf.random.stateless_uniform(shape, seed)


def _inside(boxes: Boxes, height: int, width: int) -> tf.Tensor:
    """bool [batch, height, width, 1]: whether a pixel is in the image's box."""

    def between(start: tf.Tensor, end: tf.Tensor, size: int) -> tf.Tensor:
        places = tf.range(size)
        return (places >= start[:, tf.newaxis]) & (places < end[:, tf.newaxis])

    rows, columns = between(boxes.top, boxes.bottom, height), between(boxes.left, boxes.right, width)
    return (rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :])[..., tf.newaxis]
