"""Batches for mixup, cutmix and random erasing, what the options make of them, and how distributions compare."""

import math

import numpy as np

from efficientnet_tpu.config.train import TrainConfig

SIZE = 12
NUM_CLASSES = 5


def draw_batch(batch_size, height=SIZE, width=SIZE):
    """uint8 images, one-hot float32 targets."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (batch_size, height, width, 3)).astype("uint8")
    return images, np.eye(NUM_CLASSES, dtype="float32")[draw.integers(0, NUM_CLASSES, batch_size)]


def mixed(mixup, batch, seed=0, **options):
    """A batch as the options mix it in a step with the seed, as numpy."""
    images, targets = mixup.make_mix(TrainConfig(**options))(*as_tensors(batch), tf_seed(seed))
    return images.numpy(), targets.numpy()


def as_tensors(batch):
    import tensorflow as tf

    return [tf.constant(part) for part in batch]


def tf_seed(seed):
    import tensorflow as tf

    return tf.constant([seed, 7])


def black_and_white(batch_size, size=SIZE):
    """Images of class 0, black, and class 1, white, in turn, so that every pair has both and targets tell the shares.

    batch_size: a multiple of 4, so that halves are such batches too.
    """
    classes = np.arange(batch_size) % 2
    images = np.repeat(255 * classes, size * size * 3).reshape(batch_size, size, size, 3).astype("uint8")
    return images, np.eye(2, dtype="float32")[classes]


def own_shares(mixed_targets):
    """Of a batch that was `black_and_white`, float64."""
    return mixed_targets[np.arange(len(mixed_targets)), np.arange(len(mixed_targets)) % 2].astype(float)


def kolmogorov_smirnov(samples, distribution):
    """The largest distance between the distribution of the samples and the function, times the root of their number:
    more than 1.95 with probability 1/1000.
    """
    expected = distribution(np.sort(samples))
    steps = np.arange(len(samples) + 1) / len(samples)
    return max((steps[1:] - expected).max(), (expected - steps[:-1]).max()) * math.sqrt(len(samples))


def two_sample_kolmogorov_smirnov(samples, others):
    """The same for the distributions of two samples, of which values may be equal."""
    values = np.concatenate([samples, others])
    shares = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (samples, others)]
    return abs(shares[0] - shares[1]).max() / math.sqrt(1 / len(samples) + 1 / len(others))


def numbers_of(boxes):
    return np.stack([boxes.top, boxes.left, boxes.bottom, boxes.right], axis=-1)
