"""TensorFlow 1's bicubic kernel, with which the published weights were trained, on the host's processor.

To the last bit what `preprocessing.resize` makes of TensorFlow's operations, in a third of the time: those know no
vectors, write float32 images, and round them in another pass.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from efficientnet_tpu.data.kernels.numba_compile import compiled, pointer

_FRACTIONS = 1024  # of the distance between two pixels; weights are tabulated


def _weights() -> np.ndarray:
    """float32 [_FRACTIONS + 1, 2]: weights of the pixel at these distances, and of the one beyond it; a = -0.75.

    Rounded where TensorFlow rounds: float32 distances, double arithmetic.
    """
    a = -0.75
    near = (np.arange(_FRACTIONS + 1) / _FRACTIONS).astype(np.float32).astype(np.float64)
    far = (near + 1).astype(np.float32).astype(np.float64)
    near_weights = ((a + 2) * near - (a + 3)) * near * near + 1
    far_weights = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
    return np.stack([near_weights, far_weights], axis=1).astype(np.float32)


_WEIGHTS = _weights()
_FOUR_FLOATS = ir.VectorType(ir.FloatType(), 4)


@intrinsic
def _mix_fours(  # noqa: PLR0913 - an instruction, not a function
    typing_context: Any, values: Any, i0: Any, i1: Any, i2: Any, i3: Any, weights: Any, first: Any, out: Any, to: Any
) -> tuple[Any, Callable]:
    """out[to : to + 4] = sum over the tap t of values[it : it + 4] * weights[first + 4 * t :][:4], added in this order.

    Contiguous float32, four at a time, which the compiler does not find by itself. No index is checked.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: list) -> Any:
        def at(array: int, index: Any) -> Any:
            data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
            return builder.bitcast(builder.gep(data, [index]), _FOUR_FLOATS.as_pointer())

        total = None
        for tap in range(4):
            weight_index = builder.add(arguments[6], ir.Constant(ir.IntType(64), 4 * tap))
            four = builder.load(at(0, arguments[1 + tap]), align=4)
            product = builder.fmul(four, builder.load(at(5, weight_index), align=4))
            total = product if total is None else builder.fadd(total, product)
        builder.store(total, at(7, arguments[8]), align=4)
        return context.get_dummy_value()

    return numba.types.void(values, i0, i1, i2, i3, weights, first, out, to), generate


@compiled
def _taps(extent, size):
    """The four pixels that make each of `size` from `extent`, int64 [size, 4], and their weights, float32 [size, 4]."""
    pixels, weights = np.empty((size, 4), np.int64), np.empty((size, 4), np.float32)
    scale = np.float32(extent) / np.float32(size)
    for index in range(size):
        position = np.float32(index) * scale
        whole = int(position)
        fraction = int(np.rint((position - np.float32(whole)) * np.float32(_FRACTIONS)))
        weights[index, 0], weights[index, 1] = _WEIGHTS[fraction, 1], _WEIGHTS[fraction, 0]
        weights[index, 2], weights[index, 3] = _WEIGHTS[_FRACTIONS - fraction, 0], _WEIGHTS[_FRACTIONS - fraction, 1]
        for tap in range(4):
            pixels[index, tap] = min(max(whole - 1 + tap, 0), extent - 1)
    return pixels, weights


@compiled
def _mix_rows(r0, r1, r2, r3, weights, mixed):
    """Four rows of levels with a weight each -> float32."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for i in range(r0.size):
        mixed[i] = np.float32(r0[i]) * w0 + np.float32(r1[i]) * w1 + np.float32(r2[i]) * w2 + np.float32(r3[i]) * w3


@compiled
def _mix_columns(row, places, weights, mixed):
    """places: int64 [width, 4], of the pixels' first channels; weights: float32 [width * 16], each four times."""
    for x in range(places.shape[0]):
        # Three channels, and whatever comes then, which the next pixel overwrites.
        _mix_fours(row, places[x, 0], places[x, 1], places[x, 2], places[x, 3], weights, 16 * x, mixed, 3 * x)


@compiled
def _to_levels(values, rounding, levels):
    for i in range(levels.size):
        value = min(max(values[i] + rounding, np.float32(0)), np.float32(255))
        levels[i] = np.uint8(np.int32(value))


def resize(image_at, out_at, height, width, numbers_at):
    """A kernel as those of `image_kernels`, from an image of another size: its height and width; what is added before
    decimals are cut off, 0.5 for the nearest level, 0 for the next below; 1 to exchange left and right.
    """
    numbers = numba.carray(pointer(numbers_at), (4,), np.float64)
    from_height, from_width, rounding = int(numbers[0]), int(numbers[1]), np.float32(numbers[2])
    image = numba.carray(pointer(image_at), (from_height, 3 * from_width), np.uint8)
    out = numba.carray(pointer(out_at), (height, 3 * width), np.uint8)
    rows, row_weights = _taps(from_height, height)
    columns, column_weights = _taps(from_width, width)
    if numbers[3] == 1:
        columns, column_weights = columns[::-1].copy(), column_weights[::-1].copy()
    places, weights = 3 * columns, np.repeat(column_weights, 4)
    # Four numbers more than an image's row has: see _mix_columns.
    mixed_rows, mixed = np.zeros(3 * from_width + 4, np.float32), np.zeros(3 * width + 4, np.float32)
    for y in range(height):
        r0, r1, r2, r3 = rows[y, 0], rows[y, 1], rows[y, 2], rows[y, 3]
        _mix_rows(image[r0], image[r1], image[r2], image[r3], row_weights[y], mixed_rows)
        _mix_columns(mixed_rows, places, weights, mixed)
        _to_levels(mixed, rounding, out[y])
