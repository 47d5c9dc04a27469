"""A small network that mixes Fused-MBConv and MBConv blocks, as a table of stages."""

import json

# Every form of a Fused-MBConv block: with and without expansion, squeeze-and-excitation, stride and residual.
_ROWS = [
    # block, se_ratio, repeats, kernel_size, strides, expand_ratio, filters
    ("fused_mbconv", 0.25, 2, 3, 1, 1, 8),
    ("fused_mbconv", 0, 1, 5, 2, 1, 8),
    ("fused_mbconv", 0, 2, 3, 2, 4, 16),
    ("fused_mbconv", 0.25, 1, 3, 2, 4, 16),
    ("mbconv", 0.25, 2, 5, 2, 4, 24),
]
_KEYS = ("block", "se_ratio", "repeats", "kernel_size", "strides", "expand_ratio", "filters")
MIXED = json.dumps(
    {
        "name": "mixed",
        "stem_filters": 8,
        "head_filters": 32,
        "stages": [dict(zip(_KEYS, row, strict=True)) for row in _ROWS],
    }
)
