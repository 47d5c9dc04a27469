"""Compiles a step for a row of the table, unless the very same program has been compiled before."""

import dataclasses
from collections.abc import Sequence

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.hardware.tpu_specs import Slice
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.plan import table, tpu_compiler
from efficientnet_tpu.plan.table import CompiledStep, StepKey


def compiled_row(
    key: StepKey, config: Config, tpu: Slice, rows: Sequence[CompiledStep], table_path: str
) -> CompiledStep:
    """Returns the row of a step; a new row is appended to the file `table_path`.

    An older row with the same program, slice and compiler serves as well, whatever options led to it. Raises UserError
    without the extra `plan`, or if the compiler refuses the program.
    """
    tpu_compiler.prepare()
    table.require_writable(table_path)
    tensorflow_startup.import_tensorflow()
    architecture = configured_architecture(config.model, config.plan.num_classes)
    program, compiler = tpu_compiler.Program(_lower(architecture, config, tpu)), tpu_compiler.compiler_version()
    effort = config.plan.plan_effort
    for row in rows:
        same = (row.program, row.compiler, row.key.kind, row.key.num_cores)
        if same == (program.key, compiler, tpu.kind, tpu.num_cores) and row.compiler_effort in ("full", effort):
            return dataclasses.replace(row, key=key)
    print(f"compiling {architecture.name}, {key.batch_size} images a core, for {tpu.topology}; minutes ...", flush=True)
    compilation, seconds = tpu_compiler.compile_timed(program, tpu.topology, tpu.num_cores, effort)
    row = CompiledStep(key, compilation, compiler, program.key, round(seconds, 1), effort)
    table.append(table_path, row)
    return row


def _lower(architecture: Architecture, config: Config, tpu: Slice) -> bytes:
    from efficientnet_tpu.plan import lowering

    match config.plan.plan_step:
        case "evaluation":
            return lowering.lower_eval_step(architecture, config, tpu.num_cores)[0]
        case "serving":
            return lowering.lower_serving(architecture, config, tpu.num_cores)[0]
        case _:
            return lowering.lower_train_step(architecture, config, tpu.num_cores, config.plan.num_images).hlo
