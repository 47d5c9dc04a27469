"""Mixup, cutmix and random erasing, inside the compiled training step, on whatever device it runs.

Images are pixels 0..255 before normalization, targets one probability for each class. Shapes are static. A draw is a
function of the step's seed alone.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.train import TrainConfig

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
    """A box for each image, int32 [batch] each. Rows top to bottom - 1 and columns left to right - 1 are inside."""

    top: tf.Tensor
    left: tf.Tensor
    bottom: tf.Tensor
    right: tf.Tensor


def make_mix(train_config: TrainConfig) -> Mix:
    """Returns the mixing that the options ask for, chosen here and not in the step.

    With all options off, it returns its arguments, uint8 images included; else images become float32 [batch, height,
    width, 3]. Random erasing comes first, because it works on single images; mixup and cutmix work on pairs. With both,
    the first half of the (replica's) batch gets mixup and the second cutmix, each half paired within itself, as in
    EfficientNetV2. Image i is paired with image batch - 1 - i. The middle image of an odd batch is paired with itself
    and stays as it is.
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
    """Mixes the batch with its reverse by mixup (Zhang et al. 2018): weighted means of images and of targets.

    images: float32 [batch, height, width, 3], 0..255.
    targets: float32 [batch, num_classes].
    own_shares: float32 [batch], 0..1, the weight of the image itself.

    Returns images and targets of the same shapes.
    """
    shares = own_shares[:, tf.newaxis]
    mixed_targets = targets * shares + targets[::-1] * (1 - shares)
    shares = shares[:, tf.newaxis, tf.newaxis]
    return images * shares + images[::-1] * (1 - shares), mixed_targets


def cut_mix(images: tf.Tensor, targets: tf.Tensor, boxes: Boxes) -> tuple[tf.Tensor, tf.Tensor]:
    """Pastes each image's box from the reversed batch, at the same place: CutMix (Yun et al. 2019).

    images: float32 [batch, height, width, 3], 0..255; targets: float32 [batch, num_classes]. Returns the same shapes.
    A target's weights are the areas of the image's own pixels and of the clipped box. (EfficientNetV2's code weights
    all targets by the mean area of the batch's boxes: a bug, by which no label fits its image.)
    """
    _, height, width, _ = images.shape
    area = (boxes.bottom - boxes.top) * (boxes.right - boxes.left)
    pasted = tf.cast(area, tf.float32)[:, tf.newaxis] / (height * width)
    mixed_targets = targets * (1 - pasted) + targets[::-1] * pasted
    return tf.where(_inside(boxes, height, width), images[::-1], images), mixed_targets


def erase(images: tf.Tensor, boxes: Boxes, pixels: tf.Tensor) -> tf.Tensor:
    """Replaces the images' boxes by `pixels`. images, pixels, result: float32 [batch, height, width, 3]."""
    _, height, width, _ = images.shape
    return tf.where(_inside(boxes, height, width), pixels, images)


def cutmix_boxes(areas: tf.Tensor, centers: tf.Tensor, height: int, width: int) -> Boxes:
    """Returns the boxes of the paper's code: centered on any pixel, of the image's aspect, clipped at the borders.

    areas: float32 [batch], 0..1, a box's share of the image before it is clipped.
    centers: float32 [batch, 2] in [0, 1), row and column as a share of height and width.

    Half a side is whole pixels, which makes a box a little smaller.
    """
    sides = tf.sqrt(areas)

    def extent(center: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
        middle = tf.cast(center * size, tf.int32)
        half = tf.cast(sides * size, tf.int32) // 2
        return tf.maximum(middle - half, 0), tf.minimum(middle + half, size)

    top, bottom = extent(centers[:, 0], height)
    left, right = extent(centers[:, 1], width)
    return Boxes(top, left, bottom, right)


def erasing_boxes(probability: float, uniforms: tf.Tensor, height: int, width: int) -> Boxes:
    """Returns the boxes of random erasing, which are empty for images that are not chosen.

    A box's area is uniform between 0.02 and 1/3 of the image's, the logarithm of its aspect between those of 0.3 and
    1 / 0.3. It lies where it is whole. The first attempt that is smaller than the image counts; if none is, nothing is
    erased.

    uniforms: float32 [batch, numbers] in [0, 1), 3 + 2 * ERASING_ATTEMPTS numbers: whether to erase, row, column, and
    for each attempt area and aspect.
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
    """Returns the table by which `beta` draws: the quantiles of min(X, 1 - X), X ~ Beta(alpha, alpha).

    float32 [quantiles], _QUANTILES + 1 numbers in 0..1/2: the variable is below number i with probability
    i / _QUANTILES.

    There is no compiled sampler: TensorFlow's gamma variates have no XLA kernel. As a function of z = ln((1 - x) / x),
    the density is cosh(z / 2) to the power of -2 alpha: smooth for every alpha, while that of x has poles. t is
    alpha * z.
    """
    t = np.linspace(0, 40 + np.sqrt(160 * alpha), 2**17)  # beyond it there is less than 1e-16
    density = np.exp(-t - 2 * alpha * (np.log1p(np.exp(-t / alpha)) - np.log(2)))
    beyond = np.append(np.cumsum((density[1:] + density[:-1])[::-1])[::-1], 0)
    t_at = np.interp(np.linspace(0, 1, _QUANTILES + 1), beyond[::-1] / beyond[0], t[::-1])
    odds = np.exp(-t_at / alpha)
    return (odds / (1 + odds)).astype("float32")


def beta(quantiles: np.ndarray, uniforms: tf.Tensor) -> tf.Tensor:
    """Draws from Beta(alpha, alpha).

    quantiles: float32 [quantiles], from `beta_quantiles`; uniforms: float32 [batch] in [0, 1). Returns float32 [batch]
    in 0..1.
    """
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
        shares = beta(quantiles, draw_uniforms(seed, "mixup", [images.shape[0]]))
        return mix_up(images, targets, tf.maximum(shares, 1 - shares))

    return mixup


def _cutmix(alpha: float) -> Mix:
    quantiles = beta_quantiles(alpha)

    def cutmix(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch_size, height, width, _ = images.shape
        uniforms = draw_uniforms(seed, "cutmix", [batch_size, 3])
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
    """Fills boxes with random pixels, the paper's best variant and timm's default.

    Every channel of every pixel is uniform in 0..255, as in the paper. (timm's are normal, after normalization, and may
    be brighter than white.)
    """

    def random_erasing(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch_size, height, width, _ = images.shape
        uniforms = draw_uniforms(seed, "random_erasing", [batch_size, 3 + 2 * ERASING_ATTEMPTS])
        pixels = tf.floor(256 * draw_uniforms(seed, "random_erasing_pixels", images.shape))
        return erase(images, erasing_boxes(probability, uniforms, height, width), pixels), targets

    return random_erasing


def draw_uniforms(seed: tf.Tensor, name: str, shape: list[int]) -> tf.Tensor:
    """Draws float32 [*shape] in [0, 1), from a seed of the name's own, as the step's dropout layers have theirs.

    seed: int32 [2].
    """
    seed = tf.random.experimental.stateless_fold_in(seed, zlib.crc32(name.encode()) & 0x7FFFFFFF)
    return tf.random.stateless_uniform(shape, seed)


def _inside(boxes: Boxes, height: int, width: int) -> tf.Tensor:
    """Returns which pixels are in the image's box: bool [batch, height, width, 1]."""

    def between(start: tf.Tensor, end: tf.Tensor, size: int) -> tf.Tensor:
        places = tf.range(size)
        return (places >= start[:, tf.newaxis]) & (places < end[:, tf.newaxis])

    rows, columns = between(boxes.top, boxes.bottom, height), between(boxes.left, boxes.right, width)
    return (rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :])[..., tf.newaxis]
