"""The cost of a network layer by layer, and what --freeze leaves of it: `main.py models --layers`. No TensorFlow.

A layer is a convolution with its bias, the batch norm and the activation behind it, or the classifier. The sums are
those of `complexity.count`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from efficientnet_tpu.config.run import ModelConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Architecture, PlacedConvolution
from efficientnet_tpu.models.complexity import count_convolution
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.texts.csv_text import csv_text
from efficientnet_tpu.texts.printable import shown

_BYTES = 4  # of a number of a map, in float32
_BACKWARD = 2  # multiply-adds of the gradients of a layer, in those of its forward pass
_BRANCHES = ("shortcut_conv",)  # layers that take their block's input, beside those before them


@dataclass(frozen=True)
class LayerCost:
    """A row of the table, of one image.

    part: what --freeze may name that the layer belongs to. output: height, width and channels. params: trainable.
    share: of all multiply-adds. activation_bytes: of what it writes, in float32. receptive_field: side of the square of
    pixels that a place of its output depends on, in pixels of the image, padding among them; None: on all pixels.
    trained_behind: parameters of the network that train when this part and all before it are frozen.
    """

    layer: str
    part: str
    output: tuple[int, int, int]
    params: int
    multiply_adds: int
    share: float
    activation_bytes: int
    receptive_field: int | None
    trained_behind: int


def layer_costs(architecture: Architecture, resolution: int | None = None) -> list[LayerCost]:
    """Returns a row for each layer, in the order of the data. resolution: of the images; None: the network's own."""
    placed = architecture.convolutions(resolution)
    costs = [count_convolution(row) for row in placed]
    total = sum(cost.multiply_adds for cost in costs)
    parts = [_part(row) for row in placed]
    behind = {
        part: sum(cost.trainable_params for cost, of in zip(costs, parts, strict=True) if parts.index(of) > first)
        for first, part in ((parts.index(part), part) for part in dict.fromkeys(parts))
    }
    return [
        LayerCost(
            row.layer_name,
            part,
            (row.output_size, row.output_size, row.convolution.filters),
            cost.trainable_params,
            cost.multiply_adds,
            cost.multiply_adds / total,
            _BYTES * cost.activations,
            field,
            behind[part],
        )
        for row, part, cost, field in zip(placed, parts, costs, receptive_fields(architecture, placed), strict=True)
    ]


def receptive_fields(architecture: Architecture, placed: Sequence[PlacedConvolution]) -> list[int | None]:
    """Returns the receptive field of each layer's output, in pixels; None where it is the whole image.

    A window of k at a distance of d pixels between places adds (k - 1) d (Araujo, Norris & Sim 2019, equation 2). The
    factors of squeeze-and-excitation, which depend on the whole image, are not counted as what they multiply.
    """
    fields: list[int | None] = []
    field, distance = 1, 1
    block_input = field, distance
    block: int | None = None
    for row in placed:
        convolution = row.convolution
        if row.block != block:
            block, block_input = row.block, (field, distance)
        if convolution.writes == "pooled":
            fields.append(None)
            continue
        before = block_input if convolution.name in _BRANCHES else (field, distance)
        after = before[0] + (convolution.kernel_size - 1) * before[1], before[1] * convolution.strides
        fields.append(after[0])
        if convolution.name not in _BRANCHES:
            field, distance = after
        if convolution.kind == "stem" and architecture.stem_pool:  # 3 x 3, by 2
            field, distance = field + 2 * distance, 2 * distance
    return fields


def frozen_parts(freeze: str, architecture: Architecture) -> list[str]:
    """Returns the parts of a network that --freeze names: "stem", "block_0", "block_1", ..., "head".

    The names of the layers of a part begin with it. Raises UserError, with the choices, for anything else.
    """
    blocks = [f"block_{index}" for index in range(len(architecture.blocks))]
    if freeze == "none":
        return []
    if freeze == "backbone":
        return ["stem", *blocks, "head"]
    kind, _, number = freeze.partition(":")
    stages = [block.stage for block in architecture.blocks]
    most = {"stages": stages[-1], "blocks": len(blocks)}.get(kind, 0)
    if not (re.fullmatch("[0-9]{1,6}", number) and 1 <= int(number) <= most):
        raise UserError(
            f"--freeze={shown(freeze)}: must be none, backbone, stages:K or blocks:N, where {architecture.name} has "
            f"stages 1 to {stages[-1]} and blocks 1 to {len(blocks)}."
        )
    count = int(number) if kind == "blocks" else sum(stage <= int(number) for stage in stages)
    return ["stem", *blocks[:count]]


def layers_text(config: ModelConfig, form: str) -> str:
    """Returns what `main.py models --layers` prints, by --format: text, csv, json or jsonl."""
    architecture = configured_architecture(config, NUM_IMAGENET_CLASSES)
    rows = layer_costs(architecture)
    if form == "text":
        return "\n".join([*_table(architecture, rows), "", *_freezing(architecture, rows)])
    facts = [{**vars(row), "output": list(row.output)} for row in rows]
    if form == "csv":
        columns = [{**row, "output": " x ".join(map(str, row["output"]))} for row in facts]
        return csv_text([columns[0], *(row.values() for row in columns)]).removesuffix("\n")
    if form == "jsonl":
        return "\n".join(map(json.dumps, facts))
    return json.dumps({"model": architecture.name, "resolution": architecture.resolution, "layers": facts}, indent=1)


def _part(row: PlacedConvolution) -> str:
    return row.layer_name.partition("_")[0] if row.block is None else f"block_{row.block}"


def _table(architecture: Architecture, rows: Sequence[LayerCost]) -> list[str]:
    header = (
        f"{'layer':<24}{'output':>17}{'parameters':>13}{'multiply-adds':>17}{'share':>7}{'activation bytes':>18}"
        f"{'sees, pixels':>14}"
    )
    lines = [f"{architecture.name} at {architecture.resolution} x {architecture.resolution}, {len(rows)} layers"]
    lines += [header, "-" * len(header)]
    for row in rows:
        output = " x ".join(map(str, row.output))
        lines.append(
            f"{row.layer:<24}{output:>17}{row.params:>13,}{row.multiply_adds:>17,}{row.share:>7.1%}"
            f"{row.activation_bytes:>18,}{row.receptive_field or 'all':>14}"
        )
    totals = [sum(getattr(row, name) for row in rows) for name in ("params", "multiply_adds", "activation_bytes")]
    lines.append(f"{'all':<24}{'':>17}{totals[0]:>13,}{totals[1]:>17,}{1:>7.1%}{totals[2]:>18,}{'':>14}")
    return [
        *lines,
        "",
        "parameters: trainable, with those of the batch norm behind. activation bytes: of what the layer writes, for",
        "one image in float32. sees: side of the square of pixels, padding among them, that a place of its output",
        "depends on.",
    ]


def _freezing(architecture: Architecture, rows: Sequence[LayerCost]) -> list[str]:
    header = f"{'--freeze':<14}{'trained parameters':>20}{'share':>8}{'of a step':>12}"
    lines = [header, "-" * len(header)]
    last_stage = architecture.blocks[-1].stage
    choices = ["none", *(f"stages:{stage}" for stage in range(1, last_stage + 1)), "backbone"]
    params, forward = sum(row.params for row in rows), sum(row.multiply_adds for row in rows)
    for choice in choices:
        frozen = frozen_parts(choice, architecture)
        trained = [row for row in rows if row.part not in frozen]
        left = sum(row.params for row in trained)
        step = forward + _BACKWARD * sum(row.multiply_adds for row in trained)
        lines.append(f"{choice:<14}{left:>20,}{left / params:>8.1%}{step / (1 + _BACKWARD) / forward:>12.0%}")
    return [
        *lines,
        "",
        "of a step: multiply-adds of a training step, of those with nothing frozen; gradients count twice the forward",
        "pass. --freeze=blocks:N lies between the stages: --format=json has it for every layer, as trained_behind.",
    ]
