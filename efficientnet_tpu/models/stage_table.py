"""A baseline network of one's own to scale and train: a table of stages in a JSON or CSV file.

The configuration holds the table itself, as JSON, not the file's name: the record of a run stays complete.

CSV: a row for each stage, with the columns repeats, kernel_size, strides, expand_ratio, filters, and perhaps block,
se_ratio and skip; the rest is EfficientNet-B0's. JSON: an object whose `stages` is a list of such rows, and which may
also hold

    block             of the stages that name none: mbconv (the default), separable (expand_ratio is not used) or
                      bottleneck (filters are the inner ones; a block puts out expand_ratio times as many, and the stem
                      ends in pooling by 2)
    resolution, stem_filters, stem_kernel_size, head_filters (EfficientNets'), dropout_rate, activation, se_ratio
    name              of the network; the file's, where left out

each B0's where left out.
"""

import csv
import io
import json
import os
from collections.abc import Sequence
from typing import Any, get_args

from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.models.architecture import B0, BLOCKS, VARIANTS, Baseline, Skip, Stage, Variant
from efficientnet_tpu.storage.text_file import read_text
from efficientnet_tpu.texts.json_text import read_json
from efficientnet_tpu.texts.printable import escaped, is_printable, shown

STAGE_KEYS = ("repeats", "kernel_size", "strides", "expand_ratio", "filters")
STAGE_OPTIONS = ("block", "se_ratio", "skip")
# What else a file may hold, with its type.
_BASELINE_KEYS = {"name": str, "block": str, "stem_filters": int, "stem_kernel_size": int, "head_filters": int}
_VARIANT_KEYS = {"resolution": int, "dropout_rate": float, "activation": str, "se_ratio": float}
# The largest values, beyond all networks: what is beyond them would take memory before it was refused.
_MOST = {
    "repeats": 200, "kernel_size": 99, "strides": 2, "expand_ratio": 1000, "filters": 100_000, "stem_filters": 100_000,
    "stem_kernel_size": 99, "head_filters": 100_000, "resolution": 4096, "dropout_rate": 0.999, "se_ratio": 1,
}  # fmt: skip
_MOST_STAGES = 100
_SMALLEST_RESOLUTION = 16  # five layers halve the image
# Those of Keras that have no parameters.
ACTIVATIONS = (
    "celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "leaky_relu", "linear", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink",
    "softplus", "softsign", "squareplus", "swish", "tanh", "tanh_shrink",
)  # fmt: skip


def inline(path: str) -> str:
    """Returns the file's content as one line of JSON, for `read_stage_table`; JSON in place of a path stays as it is.

    Raises UserError for a file that cannot be read or holds no valid table.
    """
    if path.startswith("{"):
        read_stage_table(path)
        return path
    text = read_text(path, f"--stage_table={path}")
    try:
        content = _loads(text, path) if path.endswith(".json") else {"stages": _csv_rows(text)}
    except csv.Error as error:
        raise _error(path, f"is not CSV: {error}") from error
    if isinstance(content, dict):
        content = {"name": os.path.splitext(os.path.basename(path))[0], **content}
    _parse(path, content)
    return json.dumps(content)


def read_stage_table(text: str) -> Variant:
    """Returns the network, at its own size, that such a line of JSON describes. Raises UserError."""
    return _parse(text, _loads(text, text))


def stage_table(name: str, variant: Variant) -> dict[str, Any]:
    """Returns the table of a network at its own size, which `read_stage_table` reads as JSON.

    The coefficients, normalization, interpolation and stochastic depth of the variant have no place in a table.
    """
    baseline = variant.baseline
    return {
        "name": name,
        **{key: getattr(variant, key) for key in _VARIANT_KEYS},
        **{key: getattr(baseline, key) for key in ("stem_filters", "stem_kernel_size", "head_filters")},
        "stages": [
            {
                key: value
                for key in (*STAGE_OPTIONS, *STAGE_KEYS)
                if (value := getattr(stage, key)) is not None and (key, value) != ("skip", "identity")
            }
            for stage in baseline.stages
        ],
    }


def table_name(text: str) -> str:
    """Returns the name of the network in such a line of JSON."""
    return _loads(text, text).get("name", "baseline")


def _loads(text: str, path: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        raise _error(path, str(error)) from error


def _csv_rows(text: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(text, newline=None), strict=True))


def _parse(path: str, content: Any) -> Variant:
    if not isinstance(content, dict) or not isinstance(content.get("stages"), list) or not content["stages"]:
        raise _error(path, "has no list of stages")
    known = {**_BASELINE_KEYS, **_VARIANT_KEYS}
    for key, value in content.items():
        if key != "stages":
            _check(path, key, value, known)
    block = content.get("block", "mbconv")
    if len(content["stages"]) > _MOST_STAGES:
        raise _error(path, f"has {len(content['stages']):,} stages; {_MOST_STAGES} are the most")
    stages = tuple(_stage(path, number, row, block) for number, row in enumerate(content["stages"], start=1))
    network = _network(path, stages)
    has_head = network == "efficientnet"
    if has_head != bool(content.get("head_filters", has_head)):
        raise _error(
            path, f"head_filters is {content['head_filters']}; blocks mbconv need a head, the others have none"
        )
    b0 = VARIANTS["efficientnet-b0"]
    baseline = Baseline(
        content.get("stem_filters", B0.stem_filters),
        stages,
        content.get("head_filters", B0.head_filters if has_head else 0),
        content.get("stem_kernel_size", B0.stem_kernel_size),
        stem_pool=network == "resnet",
    )
    return Variant(
        1.0,
        1.0,
        content.get("resolution", b0.resolution),
        content.get("dropout_rate", b0.dropout_rate),
        activation=content.get("activation", b0.activation),
        se_ratio=content.get("se_ratio", b0.se_ratio),
        baseline=baseline,
    )


def _stage(path: str, number: int, row: Any, block: str) -> Stage:
    if not isinstance(row, dict) or set(row) - set(STAGE_OPTIONS) != set(STAGE_KEYS):
        may = f"may have {' and '.join(STAGE_OPTIONS)}"
        raise _error(path, f"stage {number} must have {', '.join(STAGE_KEYS)}, {may}, and nothing else")
    # A CSV file has an empty cell, or none, where a stage leaves a column out.
    block, se_ratio = str(row.get("block") or block), row.get("se_ratio")
    try:
        values = {key: _whole(row[key]) for key in STAGE_KEYS}
        se_ratio = None if se_ratio in (None, "") else float(se_ratio)
    except (TypeError, ValueError) as error:
        raise _error(path, f"stage {number}: {shown(error)}") from error
    for key, value in values.items():
        most = _MOST[key]
        if not 1 <= value <= most:
            raise _error(path, f"stage {number}: {key} is {shown(value, 40)}; it must be 1 to {most:,}")
    if se_ratio is not None and not 0 <= se_ratio <= 1:
        raise _error(path, f"stage {number}: se_ratio is {se_ratio:g}; it must be 0 to 1")
    if block not in BLOCKS:
        raise _error(path, f"stage {number}: block {shown(block, 40)} is none of {', '.join(BLOCKS)}")
    return Stage(**values, block=block, se_ratio=se_ratio, skip=_skip(path, number, row, block))


def _skip(path: str, number: int, row: Any, block: str) -> Skip:
    skip, known = row.get("skip") or "identity", get_args(Skip)
    if skip not in known:
        raise _error(path, f"stage {number}: skip {shown(skip, 40)} is none of {', '.join(known)}")
    if skip != "identity" and BLOCKS[block].network != "efficientnet":
        raise _error(path, f"stage {number}: skip {skip} goes with blocks mbconv and fused_mbconv, not with {block}")
    return skip


def _whole(value: Any) -> int:
    """Returns a whole number, or a text of one. Raises ValueError or TypeError for anything else."""
    if isinstance(value, float | bool):
        raise ValueError(f"{value} is no whole number")
    return int(value)


def _network(path: str, stages: Sequence[Stage]) -> str:
    """Returns the one network that all blocks belong to. Raises UserError where there are several."""
    networks = {BLOCKS[stage.block].network: stage.block for stage in stages}
    if len(networks) > 1:
        raise _error(path, f"blocks {' and '.join(networks.values())} do not go into one network")
    return next(iter(networks))


def _check(path: str, key: str, value: Any, known: dict[str, type]) -> None:
    if key not in known:
        raise _error(
            path, f"{shown(key, 40)} is not known.{nearest(key, [*known, 'stages'])} It may say {', '.join(known)}"
        )
    kind = known[key]
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if isinstance(value, bool) or not fits or (kind is not str and value < 0):
        raise _error(
            path, f"{key} is {shown(repr(value), 40)}; it must be {'text' if kind is str else 'a number, 0 or more'}"
        )
    if not isinstance(value, str):
        least = _SMALLEST_RESOLUTION if key == "resolution" else 0
        if not least <= value <= _MOST[key]:
            raise _error(path, f"{key} is {shown(value, 40)}; it must be {least} to {_MOST[key]:,}")
    elif not is_printable(value):
        raise _error(path, f"{key} is {shown(value, 40)}; it must be text of one line")
    elif key == "activation" and value not in ACTIVATIONS:
        raise _error(path, f"activation is {shown(value, 40)}, which is none of {', '.join(ACTIVATIONS)}")


def _error(path: str, what: str) -> UserError:
    named = path if len(path) < 80 else f"{path[:77]}..."
    return UserError(f"--stage_table={escaped(named)}: {what}. The form is in docs/paper.md.")
