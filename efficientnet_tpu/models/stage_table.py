"""A baseline network of one's own to scale and train: a table of stages in a JSON or CSV file.

The configuration holds the table itself, as JSON, not the file's name: the record of a run stays complete.

CSV: a row for each stage, with the columns repeats, kernel_size, strides, expand_ratio, filters, and perhaps block and
se_ratio; the rest is EfficientNet-B0's. JSON: an object whose `stages` is a list of such rows, and which may also hold

    block             of the stages that name none: mbconv (the default), separable (expand_ratio is not used) or
                      bottleneck (filters are the inner ones; a block puts out expand_ratio times as many, and the stem
                      ends in pooling by 2)
    resolution, stem_filters, stem_kernel_size, head_filters (EfficientNets'), dropout_rate, activation, se_ratio
    name              of the network; the file's, where left out

each B0's where left out.
"""

import csv
import json
import os
from collections.abc import Sequence
from typing import Any

from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.models.architecture import B0, BLOCKS, VARIANTS, Baseline, Stage, Variant
from efficientnet_tpu.storage.text_file import read_text

STAGE_KEYS = ("repeats", "kernel_size", "strides", "expand_ratio", "filters")
STAGE_OPTIONS = ("block", "se_ratio")
# What else a file may hold, with its type.
_BASELINE_KEYS = {"name": str, "block": str, "stem_filters": int, "stem_kernel_size": int, "head_filters": int}
_VARIANT_KEYS = {"resolution": int, "dropout_rate": float, "activation": str, "se_ratio": float}


def inline(path: str) -> str:
    """Returns the file's content as one line of JSON, for `read_stage_table`; JSON in place of a path stays as it is.

    Raises UserError for a file that cannot be read or holds no valid table.
    """
    if path.startswith("{"):
        read_stage_table(path)
        return path
    text = read_text(path, f"--stage_table={path}")
    try:
        content = json.loads(text) if path.endswith(".json") else {"stages": list(csv.DictReader(text.splitlines()))}
    except ValueError as error:
        raise _error(path, f"is not JSON: {error}") from error
    _parse(path, content)
    name, _ = os.path.splitext(os.path.basename(path))
    return json.dumps({"name": name, **content})


def read_stage_table(text: str) -> Variant:
    """Returns the network, at its own size, that such a line of JSON describes. Raises UserError."""
    return _parse(text, _loads(text))


def table_name(text: str) -> str:
    """Returns the name of the network in such a line of JSON."""
    return _loads(text).get("name", "baseline")


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _error(text, f"is not JSON: {error}") from error


def _parse(path: str, content: Any) -> Variant:
    if not isinstance(content, dict) or not isinstance(content.get("stages"), list) or not content["stages"]:
        raise _error(path, "has no list of stages")
    known = {**_BASELINE_KEYS, **_VARIANT_KEYS}
    for key, value in content.items():
        if key != "stages":
            _check(path, key, value, known)
    block = content.get("block", "mbconv")
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
        values = {key: int(row[key]) for key in STAGE_KEYS}
        se_ratio = None if se_ratio in (None, "") else float(se_ratio)
    except (TypeError, ValueError) as error:
        raise _error(path, f"stage {number}: {error}") from error
    for key, value in values.items():
        if value < 1 or (key == "strides" and value > 2):
            raise _error(
                path, f"stage {number}: {key} is {value}; it must be {'1 or 2' if key == 'strides' else '1 or more'}"
            )
    if se_ratio is not None and not 0 <= se_ratio <= 1:
        raise _error(path, f"stage {number}: se_ratio is {se_ratio:g}; it must be 0 to 1")
    if block not in BLOCKS:
        raise _error(path, f"stage {number}: block {block} is none of {', '.join(BLOCKS)}")
    return Stage(**values, block=block, se_ratio=se_ratio)


def _network(path: str, stages: Sequence[Stage]) -> str:
    """Returns the one network that all blocks belong to. Raises UserError where there are several."""
    networks = {BLOCKS[stage.block].network: stage.block for stage in stages}
    if len(networks) > 1:
        raise _error(path, f"blocks {' and '.join(networks.values())} do not go into one network")
    return next(iter(networks))


def _check(path: str, key: str, value: Any, known: dict[str, type]) -> None:
    if key not in known:
        raise _error(path, f"{key} is not known.{nearest(key, [*known, 'stages'])} It may say {', '.join(known)}")
    kind = known[key]
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if isinstance(value, bool) or not fits or (kind is not str and value < 0):
        raise _error(path, f"{key} is {value!r}; it must be {'text' if kind is str else 'a number, 0 or more'}")


def _error(path: str, what: str) -> UserError:
    shown = path if len(path) < 80 else f"{path[:77]}..."
    return UserError(f"--stage_table={shown}: {what}. The form is in docs/paper.md.")
