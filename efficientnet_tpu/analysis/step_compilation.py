"""Compiling a training step for a row of the table, unless that very program has been compiled before."""

import os
from collections.abc import Sequence
from pathlib import Path

from efficientnet_tpu import startup
from efficientnet_tpu.analysis import plan_table, tpu_compiler
from efficientnet_tpu.analysis.plan_table import Key, Row
from efficientnet_tpu.config import Config
from efficientnet_tpu.models.compound_scaling import architecture_of
from efficientnet_tpu.tpu_types import Slice


def compiled_row(key: Key, config: Config, tpu: Slice, rows: Sequence[Row], table: str) -> Row:
    """The row of a step, which is added to the file `table` where it is new.

    A row with the same program, slice and compiler is as good, whatever made it. Raises UserError without the extra
    `plan`, or where the compiler refuses the program.
    """
    tpu_compiler.prepare()
    startup.import_tensorflow()
    from efficientnet_tpu.analysis.step_lowering import lower_train_step

    architecture = architecture_of(config.model, config.plan.num_classes)
    lowered = lower_train_step(architecture, config, tpu.num_cores, config.plan.num_images)
    program, compiler = tpu_compiler.Program(lowered.hlo), tpu_compiler.compiler_version()
    for row in rows:
        if (row.program, row.compiler, row.key.kind, row.key.num_cores) == (
            *(program.key, compiler),
            *(tpu.kind, tpu.num_cores),
        ):
            return row if row.key == key else Row(key, row.compilation, compiler, program.key, row.cpu_seconds)
    print(f"compiling {architecture.name}, {key.batch_size} images a core, for {tpu.topology}; minutes ...", flush=True)
    compilation, seconds = tpu_compiler.timed(program, tpu.topology, tpu.num_cores)
    row = Row(key, compilation, compiler, program.key, round(seconds, 1))
    append(table, row)
    return row


def append(table: str, row: Row) -> None:
    """Adds a line to a table, which is made if need be; one write, so that another program's line stays whole."""
    os.makedirs(os.path.dirname(table) or ".", exist_ok=True)
    with Path(table).open("a") as file:
        file.write(plan_table.to_json(row) + "\n")
