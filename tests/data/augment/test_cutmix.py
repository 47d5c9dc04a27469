"""Cutmix: where its boxes lie, what is pasted, and that the label is what is seen of each image."""

import math

import numpy as np
import pytest

from tests.support.mixing import (
    black_and_white,
    draw_batch,
    mixed,
    numbers_of,
    own_shares,
    two_sample_kolmogorov_smirnov,
)


def clipped_box(area, center, height, width):
    """The box as EfficientNetV2's code has it, top, left, bottom, right."""
    row, column = int(center[0] * height), int(center[1] * width)
    box_height, box_width = int(math.sqrt(area) * height), int(math.sqrt(area) * width)
    return (
        min(max(row - box_height // 2, 0), height),
        min(max(column - box_width // 2, 0), width),
        min(max(row + box_height // 2, 0), height),
        min(max(column + box_width // 2, 0), width),
    )


@pytest.mark.parametrize(("height", "width"), [(224, 224), (33, 20), (2, 2), (1, 1)])
def test_cutmix_boxes(tf, mixup, height, width):
    draw = np.random.default_rng(0)
    # None at which the side of a box is whole: whether just below or not, is rounding.
    areas = draw.integers(0, 100, 1000) / 100 + 0.0037
    centers = np.minimum(draw.uniform(size=(1000, 2)), 0.999)
    boxes = mixup.cutmix_boxes(
        tf.constant(areas, tf.float32), tf.constant(centers, tf.float32), height=height, width=width
    )
    expected = [clipped_box(area, center, height, width) for area, center in zip(areas, centers, strict=True)]
    assert np.array_equal(numbers_of(boxes), expected)


def test_cutmix_boxes_at_the_ends(tf, mixup):
    almost_one = np.float32(1) - np.float32(2**-23)  # the largest uniform
    boxes = mixup.cutmix_boxes(
        tf.constant([0.0, 1.0, 1.0, 1.0]), tf.constant([[0.5] * 2, [0.5] * 2, [0.0] * 2, [almost_one] * 2]), 10, 256
    )
    assert numbers_of(boxes).tolist() == [[5, 128, 5, 128], [0, 0, 10, 256], [0, 0, 5, 128], [4, 127, 10, 256]]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_cutmix_formula(tf, mixup, batch_size):
    images, targets = draw_batch(batch_size, height=10, width=14)
    draw = np.random.default_rng(1)
    top, left = draw.integers(0, 5, batch_size), draw.integers(0, 7, batch_size)
    bottom, right = top + draw.integers(0, 5, batch_size), left + draw.integers(1, 7, batch_size)
    boxes = mixup.Boxes(*(tf.constant(side, tf.int32) for side in (top, left, bottom, right)))
    mixed_images, mixed_targets = mixup.cut_mix(tf.cast(images, tf.float32), tf.constant(targets), boxes)
    for i in range(batch_size):
        j, box = batch_size - 1 - i, np.s_[top[i] : bottom[i], left[i] : right[i]]
        expected = images[i].copy()
        expected[box] = images[j][box]
        assert np.array_equal(mixed_images[i], expected)
        pasted = (bottom[i] - top[i]) * (right[i] - left[i]) / (10 * 14)
        np.testing.assert_allclose(mixed_targets[i], (1 - pasted) * targets[i] + pasted * targets[j], atol=1e-6)


def test_the_label_of_cutmix_is_what_is_seen_of_each_image(mixup):
    mixed_images, mixed_targets = mixed(mixup, black_and_white(2000), cutmix_alpha=1.0)
    assert set(np.unique(mixed_images)) == {0, 255}
    white = mixed_images.mean((1, 2, 3)) / 255
    np.testing.assert_allclose(mixed_targets, np.stack([1 - white, white], axis=-1), atol=1e-6)
    # Each its own, not all the mean.
    assert np.std(white[::2]) > 0.1


def test_the_weights_of_cutmix(mixup):
    """Against boxes made by the paper's code of numpy's draws."""
    size = 48
    pasted = 1 - own_shares(mixed(mixup, black_and_white(4000, size), cutmix_alpha=1.0)[1])
    draw = np.random.default_rng(0)
    boxes = [clipped_box(draw.beta(1, 1), draw.uniform(size=2), size, size) for _ in range(40_000)]
    theirs = np.array([(bottom - top) * (right - left) for top, left, bottom, right in boxes])
    assert np.mean(pasted) == pytest.approx(np.mean(theirs) / size**2, rel=0.05)
    assert two_sample_kolmogorov_smirnov(np.round(pasted * size**2), theirs) < 1.95
