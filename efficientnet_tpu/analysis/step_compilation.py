"""Compiling a training step for a row of the table, unless that very program has been compiled before."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from efficientnet_tpu import startup
from efficientnet_tpu.analysis import plan_table, tpu_compiler
from efficientnet_tpu.analysis.plan_table import Key, Row
from efficientnet_tpu.config import Config
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.compound_scaling import architecture_of
from efficientnet_tpu.tpu_types import Slice


def compiled_row(key: Key, config: Config, tpu: Slice, rows: Sequence[Row], table: str) -> Row:
    """The row of a step, which is added to the file `table` where it is new.

    A row with the same program, slice and compiler is as good, whatever made it. Raises UserError without the extra
    `plan`, or where the compiler refuses the program.
    """
    tpu_compiler.prepare()
    startup.import_tensorflow()
    architecture = architecture_of(config.model, config.plan.num_classes)
    program, compiler = tpu_compiler.Program(_lowered(architecture, config, tpu)), tpu_compiler.compiler_version()
    effort = config.plan.plan_effort
    for row in rows:
        same = (row.program, row.compiler, row.key.kind, row.key.num_cores)
        if same == (program.key, compiler, tpu.kind, tpu.num_cores) and row.effort in ("full", effort):
            return dataclasses.replace(row, key=key)
    print(f"compiling {architecture.name}, {key.batch_size} images a core, for {tpu.topology}; minutes ...", flush=True)
    compilation, seconds = tpu_compiler.timed(program, tpu.topology, tpu.num_cores, effort)
    row = Row(key, compilation, compiler, program.key, round(seconds, 1), effort)
    append(table, row)
    return row


def _lowered(architecture: Architecture, config: Config, tpu: Slice) -> bytes:
    from efficientnet_tpu.analysis import step_lowering

    match config.plan.plan_step:
        case "evaluation":
            return step_lowering.lower_eval_step(architecture, config, tpu.num_cores)[0]
        case "serving":
            return step_lowering.lower_serving(architecture, config, tpu.num_cores)[0]
        case _:
            return step_lowering.lower_train_step(architecture, config, tpu.num_cores, config.plan.num_images).hlo


def append(table: str, row: Row) -> None:
    """Adds a line to a table, which is made if need be; one write, so that another program's line stays whole."""
    os.makedirs(os.path.dirname(table) or ".", exist_ok=True)
    with Path(table).open("a") as file:
        file.write(plan_table.to_json(row) + "\n")
