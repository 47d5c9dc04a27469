"""One training step of an EfficientNet in NumPy, from the recipe's definitions: forward, backward, update; float64.

Nothing of this comes from TensorFlow, Keras or the package: its gradients are derived by hand, its convolutions are
loops over the kernel's taps. Weights are a dict by Keras' path, such as "block_0_se_reduce/bias"; what a block is made
of follows from which weights there are. Images and features are [batch, height, width, channels].

An operation returns its value and its pullback, the function from the gradient by the value to that by its input;
pullbacks leave the gradients by the weights in a dict on their way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]
Pullback = Callable[[Array], Array]
Layer = Callable[[Array], tuple[Array, Pullback]]

PIXEL_MEAN = 255 * np.array([0.485, 0.456, 0.406])
PIXEL_STD = 255 * np.array([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class Recipe:
    """The numbers of the reference implementation; what a test changes is what its size demands."""

    batch_size: int
    num_images: int
    warmup_epochs: Fraction = Fraction(5)
    decay_epochs: Fraction = Fraction(12, 5)
    base_rate: float = 0.016
    decay_factor: float = 0.97
    rmsprop_decay: float = 0.9
    momentum: float = 0.9
    rmsprop_epsilon: float = 1e-3
    average_decay: float = 0.9999
    weight_decay: float = 1e-5
    label_smoothing: float = 0.1
    batch_norm_momentum: float = 0.99
    batch_norm_epsilon: float = 1e-3

    def learning_rate(self, step: int) -> float:
        """Warm-up from 0 in place of the staircase, whose clock runs from step 0; epochs are not rounded."""
        initial = self.base_rate * self.batch_size / 256
        epoch = Fraction(self.num_images, self.batch_size)
        warmup_steps = int(self.warmup_epochs * epoch)
        if step < warmup_steps:
            return initial * step / warmup_steps
        return initial * self.decay_factor ** int(step / (self.decay_epochs * epoch))


def trainable(path: str) -> bool:
    """Whether gradients change the weight, rather than the batches' statistics."""
    return not path.endswith(("/moving_mean", "/moving_variance"))


class Training:
    """A model, its average and RMSProp's slots, all by path, and the step that changes them."""

    def __init__(self, recipe: Recipe, weights: Weights, strides: list[int]):
        self.recipe, self.strides = recipe, strides
        self.weights = {path: np.array(value, "float64") for path, value in weights.items()}
        self.average = {path: value.copy() for path, value in self.weights.items()}
        self.mean_square = {path: np.ones_like(value) for path, value in self.weights.items() if trainable(path)}
        self.momentum = {path: np.zeros_like(value) for path, value in self.weights.items() if trainable(path)}
        self.num_steps = 0

    def step(self, images: Array, labels: Array) -> float:
        """One update; the loss before it."""
        recipe, rate = self.recipe, self.recipe.learning_rate(self.num_steps)
        network = Network(self.weights, self.strides, recipe.batch_norm_epsilon)
        loss, gradients = loss_and_gradients(network, images, labels, recipe)
        for path, gradient in gradients.items():
            mean_square, momentum = self.mean_square[path], self.momentum[path]
            mean_square += (1 - recipe.rmsprop_decay) * (gradient**2 - mean_square)
            momentum *= recipe.momentum
            momentum += rate * gradient / np.sqrt(mean_square + recipe.rmsprop_epsilon)
            self.weights[path] = self.weights[path] - momentum
        for path, statistic in network.statistics.items():
            self.weights[path] = (
                recipe.batch_norm_momentum * self.weights[path] + (1 - recipe.batch_norm_momentum) * statistic
            )
        self.num_steps += 1
        decay = min(recipe.average_decay, (1 + self.num_steps) / (10 + self.num_steps))
        for path, weight in self.weights.items():
            self.average[path] = decay * self.average[path] + (1 - decay) * weight
        return loss


def loss_and_gradients(network: "Network", images: Array, labels: Array, recipe: Recipe) -> tuple[float, Weights]:
    """Mean smoothed cross-entropy plus L2 on all but batch norm, and its gradients by the trainable weights."""
    logits, pullback = network.logits(images)
    num_images, num_classes = logits.shape
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    targets = (1 - recipe.label_smoothing) * np.eye(num_classes)[labels] + recipe.label_smoothing / num_classes
    loss = -(targets * log_probabilities).sum() / num_images
    pullback((np.exp(log_probabilities) - targets) / num_images)
    gradients = network.gradients
    for path in gradients:
        if "_bn/" not in path:
            loss += recipe.weight_decay * (network.weights[path] ** 2).sum() / 2
            gradients[path] = gradients[path] + recipe.weight_decay * network.weights[path]
    return loss, gradients


class Network:
    """A forward pass in training mode, and the backward pass to it."""

    def __init__(self, weights: Weights, strides: list[int], batch_norm_epsilon: float):
        self.weights, self.strides, self.epsilon = weights, strides, batch_norm_epsilon
        self.gradients: Weights = {}
        self.statistics: Weights = {}  # of this batch, by the path of the moving statistic

    def logits(self, images: Array) -> tuple[Array, Pullback]:
        """Pixels of 0..255 -> [batch, classes]."""
        layers = [partial(self.conv_bn, name="stem", strides=2), swish]
        for index, strides in enumerate(self.strides):
            layers.append(partial(self.mbconv, name=f"block_{index}", strides=strides))
        layers += [partial(self.conv_bn, name="head", strides=1), swish, mean_over_map]
        return chain([*layers, partial(self.dense, name="classifier")], (images - PIXEL_MEAN) / PIXEL_STD)

    def mbconv(self, x: Array, name: str, strides: int) -> tuple[Array, Pullback]:
        """Expand, depthwise, squeeze-and-excitation, project; residual where the shape stays."""
        layers: list[Layer] = []
        if f"{name}_expand_conv/kernel" in self.weights:
            layers += [partial(self.conv_bn, name=f"{name}_expand", strides=1), swish]
        layers += [partial(self.conv_bn, name=f"{name}_depthwise", strides=strides), swish]
        if f"{name}_se_reduce/kernel" in self.weights:
            layers.append(partial(self.squeeze_excite, name=f"{name}_se"))
        y, pullback = chain([*layers, partial(self.conv_bn, name=f"{name}_project", strides=1)], x)
        if y.shape != x.shape:
            return y, pullback
        return x + y, lambda gradient: gradient + pullback(gradient)

    def squeeze_excite(self, x: Array, name: str) -> tuple[Array, Pullback]:
        """Every channel times a gate in 0..1 from the channels' means."""
        reduce, expand = (partial(self.dense, name=f"{name}_{part}") for part in ("reduce", "expand"))
        gate, gate_pullback = chain([mean_over_map, reduce, swish, expand, sigmoid], x)
        gate = gate[:, np.newaxis, np.newaxis]
        return x * gate, lambda gradient: gradient * gate + gate_pullback((gradient * x).sum((1, 2)))

    def conv_bn(self, x: Array, name: str, strides: int) -> tuple[Array, Pullback]:
        """A convolution of either kind, then batch norm."""
        convolve = self.depthwise if name.endswith("_depthwise") else self.conv
        return chain(
            [partial(convolve, name=f"{name}_conv", strides=strides), partial(self.batch_norm, name=f"{name}_bn")], x
        )

    def conv(self, x: Array, name: str, strides: int) -> tuple[Array, Pullback]:
        kernel = self.weights[f"{name}/kernel"]  # [height, width, in, out]
        padded, taps, inside = same_padding(x, kernel.shape[:2], strides)
        y = sum(padded[tap] @ kernel[place] for place, tap in taps.items())

        def pullback(gradient: Array) -> Array:
            by_kernel, by_padded = np.zeros_like(kernel), np.zeros_like(padded)
            for place, tap in taps.items():
                by_kernel[place] = np.tensordot(padded[tap], gradient, ([0, 1, 2], [0, 1, 2]))
                by_padded[tap] += gradient @ kernel[place].T
            self.gradients[f"{name}/kernel"] = by_kernel
            return by_padded[inside]

        return y, pullback

    def depthwise(self, x: Array, name: str, strides: int) -> tuple[Array, Pullback]:
        kernel = self.weights[f"{name}/kernel"]  # [height, width, channels, 1]
        padded, taps, inside = same_padding(x, kernel.shape[:2], strides)
        y = sum(padded[tap] * kernel[place][:, 0] for place, tap in taps.items())

        def pullback(gradient: Array) -> Array:
            by_kernel, by_padded = np.zeros_like(kernel), np.zeros_like(padded)
            for place, tap in taps.items():
                by_kernel[place][:, 0] = (padded[tap] * gradient).sum((0, 1, 2))
                by_padded[tap] += gradient * kernel[place][:, 0]
            self.gradients[f"{name}/kernel"] = by_kernel
            return by_padded[inside]

        return y, pullback

    def batch_norm(self, x: Array, name: str) -> tuple[Array, Pullback]:
        """By the batch's own mean and biased variance."""
        gamma, beta = self.weights[f"{name}/gamma"], self.weights[f"{name}/beta"]
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        self.statistics |= {f"{name}/moving_mean": mean, f"{name}/moving_variance": variance}
        std = np.sqrt(variance + self.epsilon)
        normal = (x - mean) / std

        def pullback(gradient: Array) -> Array:
            by_gamma, by_beta = (gradient * normal).sum((0, 1, 2)), gradient.sum((0, 1, 2))
            self.gradients |= {f"{name}/gamma": by_gamma, f"{name}/beta": by_beta}
            count = x[..., 0].size
            return gamma / std * (gradient - by_beta / count - normal * by_gamma / count)

        return gamma * normal + beta, pullback

    def dense(self, x: Array, name: str) -> tuple[Array, Pullback]:
        """A dense layer, or a convolution of a map of one pixel: [batch, in] -> [batch, out]."""
        kernel = self.weights[f"{name}/kernel"]
        matrix = kernel.reshape(kernel.shape[-2:])

        def pullback(gradient: Array) -> Array:
            self.gradients[f"{name}/kernel"] = (x.T @ gradient).reshape(kernel.shape)
            self.gradients[f"{name}/bias"] = gradient.sum(0)
            return gradient @ matrix.T

        return x @ matrix + self.weights[f"{name}/bias"], pullback


def chain(layers: list[Layer], x: Array) -> tuple[Array, Pullback]:
    """One layer after the other."""
    pullbacks = []
    for layer in layers:
        x, pullback = layer(x)
        pullbacks.append(pullback)

    def backwards(gradient: Array) -> Array:
        for pullback in reversed(pullbacks):
            gradient = pullback(gradient)
        return gradient

    return x, backwards


def sigmoid(x: Array) -> tuple[Array, Pullback]:
    y = 1 / (1 + np.exp(-x))
    return y, lambda gradient: gradient * y * (1 - y)


def swish(x: Array) -> tuple[Array, Pullback]:
    gate, _ = sigmoid(x)
    return x * gate, lambda gradient: gradient * (gate + x * gate * (1 - gate))


def mean_over_map(x: Array) -> tuple[Array, Pullback]:
    height, width = x.shape[1:3]
    return x.mean((1, 2)), lambda gradient: np.ones_like(x) * gradient[:, np.newaxis, np.newaxis] / (height * width)


def same_padding(x: Array, kernel_size: tuple[int, ...], strides: int) -> tuple[Array, dict, tuple]:
    """The padded map; for each tap of the kernel the part of it that the tap meets; the part that is the map itself.

    SAME: ceil(size / strides) outputs, the padding they need split in halves, the odd one after the map.
    """
    before, outputs, widths = [], [], [(0, 0)]
    for size, kernel in zip(x.shape[1:3], kernel_size, strict=True):
        count = -(-size // strides)
        needed = max((count - 1) * strides + kernel - size, 0)
        outputs.append(count)
        before.append(needed // 2)
        widths.append((needed // 2, needed - needed // 2))

    def meets(offset: int, axis: int) -> slice:
        return slice(offset, offset + (outputs[axis] - 1) * strides + 1, strides)

    taps = {
        (row, column): (slice(None), meets(row, 0), meets(column, 1))
        for row in range(kernel_size[0])
        for column in range(kernel_size[1])
    }
    inside = (slice(None), *(slice(first, first + size) for first, size in zip(before, x.shape[1:3], strict=True)))
    return np.pad(x, [*widths, (0, 0)]), taps, inside
