"""An oracle: FLOP of convolutions and matrix products in HLO as TensorFlow lowers it, before a compiler changes it."""

import math
import re

_SHAPE = r"\w+\[([\d,]*)\]"
_CONVOLUTION = re.compile(
    rf"= {_SHAPE}\S* convolution\((?:{_SHAPE}\S* )?%?([\w.\-]+), (?:{_SHAPE}\S* )?%?([\w.\-]+)\)(.*)"
)
_DOT = re.compile(rf"= {_SHAPE}\S* dot\((?:{_SHAPE}\S* )?%?([\w.\-]+), .*lhs_contracting_dims={{(\d+)}}")
_DEFINED = re.compile(rf"^\s*(?:ROOT )?%?([\w.\-]+) = {_SHAPE}", re.MULTILINE)


def matrix_flops(text):
    """FLOP of one execution by kind: 'convolution', 'depthwise' (in groups, any way round) and 'dot'.

    A convolution costs two for each output element and element of the kernel that it sums over; zeros that dilation
    puts between its inputs are left out, those that padding puts around them are not.
    """
    shapes = {name: _sizes(sizes) for name, sizes in _DEFINED.findall(text)}
    flops = {"convolution": 0.0, "depthwise": 0.0, "dot": 0.0}
    for output, _, _, _, kernel, attributes in _CONVOLUTION.findall(text):
        labels = re.search(r"dim_labels=\w+_(\w+)->", attributes)[1]
        per_output = math.prod(size for size, label in zip(shapes[kernel], labels, strict=True) if label != "o")
        dilation = re.search(r"lhs_dilate=([\dx]+)", attributes)
        zeros = math.prod(map(int, dilation[1].split("x"))) if dilation else 1
        kind = "depthwise" if "_group_count" in attributes else "convolution"
        flops[kind] += 2 * math.prod(_sizes(output)) * per_output / zeros
    for output, _, left, axis in _DOT.findall(text):
        flops["dot"] += 2 * math.prod(_sizes(output)) * shapes[left][int(axis)]
    return flops


def _sizes(text):
    return [int(size) for size in text.split(",") if size]
