"""Random erasing: its boxes are timm's, their distribution and their noise; and it comes before mixing."""

import math

import numpy as np
import pytest

from tests.support.mixing import SIZE, draw_batch, kolmogorov_smirnov, mixed, numbers_of


def first_fitting_box(probability, uniforms, height, width):
    """timm's loop, and how near its rounding was to going the other way."""
    if uniforms[0] >= probability:
        return None, 0.5
    for area, aspect in uniforms[3:].reshape(-1, 2):
        target = (0.02 + area * (1 / 3 - 0.02)) * height * width
        ratio = math.exp(math.log(0.3) + aspect * (math.log(1 / 0.3) - math.log(0.3)))
        sides = math.sqrt(target * ratio), math.sqrt(target / ratio)
        box_height, box_width = (round(side) for side in sides)
        if box_width < width and box_height < height:
            # random.randint has both ends.
            top = int(uniforms[1] * (height - box_height + 1))
            left = int(uniforms[2] * (width - box_width + 1))
            near = min(abs(side % 1 - 0.5) for side in sides)
            return [top, left, top + box_height, left + box_width], near
    return None, 0.5


@pytest.mark.parametrize(("height", "width"), [(224, 224), (32, 20), (2, 2), (1, 1)])
def test_erasing_boxes(tf, mixup, height, width):
    draw = np.random.default_rng(0)
    uniforms = (draw.integers(0, 2**23, (1000, 23)) / 2**23).astype("float32")
    boxes = mixup.erasing_boxes(0.6, tf.constant(uniforms), height, width)
    clear = 0
    for box, row in zip(numbers_of(boxes).tolist(), uniforms.astype(float), strict=True):
        expected, near = first_fitting_box(0.6, row, height, width)
        if near > 1e-4:
            clear += 1
            top, left, bottom, right = box
            assert box == expected if expected else (top, left) == (bottom, right)
    assert clear > 990


def test_an_attempt_that_does_not_fit_is_repeated(tf, mixup):
    uniforms = np.full((3, 23), 0.5, "float32")
    uniforms[:2, 3:5] = 0.99, 0.99  # of a third of the area, 3.3 times as high as wide
    uniforms[1, 5:7] = 0, 0.5  # a 50th, a square
    uniforms[2, 3:] = 0.99
    boxes = mixup.erasing_boxes(1.0, tf.constant(uniforms), 100, 100)
    top, left, bottom, right = numbers_of(boxes).T
    assert (bottom - top).tolist() == [42, 14, 0]
    assert (right - left).tolist() == [42, 14, 0]


def test_erasing_fills_the_box_and_nothing_else(tf, mixup):
    images, _ = draw_batch(3)
    images[images == 200] = 199
    sides = [[1, 0, 5], [2, 0, 5], [4, SIZE, 5], [7, SIZE, 9]]
    boxes = mixup.Boxes(*(tf.constant(side) for side in sides))
    pixels = tf.fill(images.shape, 200.0)
    erased = mixup.erase(tf.cast(images, tf.float32), boxes, pixels).numpy()
    expected = images.astype("float32")
    expected[0, 1:4, 2:7], expected[1] = 200, 200
    assert np.array_equal(erased, expected)


def test_the_distribution_of_random_erasing(mixup):
    """Of black images, in which the noise shows what was erased."""
    size, erased = 64, []
    for seed in range(4):
        images, targets = np.zeros((500, size, size, 3), "uint8"), np.ones((500, 1), "float32")
        images, targets = mixed(mixup, (images, targets), seed, random_erasing=0.6)
        assert np.array_equal(targets, np.ones((500, 1)))
        erased.append(images)
    images = np.concatenate(erased)
    inside = images.any(-1)
    chosen = inside.any((1, 2))
    assert np.mean(chosen) == pytest.approx(0.6, abs=4 * math.sqrt(0.24 / 2000))
    rows, columns = inside[chosen].any(2), inside[chosen].any(1)
    heights, widths = rows.sum(1), columns.sum(1)
    # A whole box; of 2^24 colours, its noise is hardly ever black.
    assert np.array_equal(inside[chosen].sum((1, 2)), heights * widths)
    # Whole pixels blur the distributions, and of the largest few do not fit.
    areas = heights * widths / size**2
    assert kolmogorov_smirnov(areas, lambda x: np.clip((x - 0.02) / (1 / 3 - 0.02), 0, 1)) < 2.5
    aspects = np.log(heights / widths) / (2 * math.log(1 / 0.3)) + 0.5
    assert kolmogorov_smirnov(aspects, lambda x: np.clip(x, 0, 1)) < 2.5
    for starts, sides in ((rows.argmax(1), heights), (columns.argmax(1), widths)):
        places = (starts + 0.5) / (size - sides + 1)
        assert kolmogorov_smirnov(places, lambda x: x) < 2.5
    noise = images[inside]
    counts = np.array([np.bincount(channel.astype(int), minlength=256) for channel in noise.T])
    assert counts.shape == (3, 256)
    assert np.array_equal(noise, noise.astype("uint8"))
    assert ((counts - len(noise) / 256) ** 2 / (len(noise) / 256)).sum() < 765 + 4 * math.sqrt(2 * 765)  # chi-square
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 4 / math.sqrt(len(noise))


def test_random_erasing_comes_before_mixing(mixup):
    images, targets = draw_batch(8)
    erased, _ = mixed(mixup, (images, targets), random_erasing=1.0)
    expected = mixed(mixup, (erased, targets), mixup_alpha=0.2, cutmix_alpha=1.0)
    both = mixed(mixup, (images, targets), mixup_alpha=0.2, cutmix_alpha=1.0, random_erasing=1.0)
    for part, expected_part in zip(both, expected, strict=True):
        assert np.array_equal(part, expected_part)
    assert not np.array_equal(erased, images)
