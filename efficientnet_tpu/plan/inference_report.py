"""The plan of what does not train: an evaluation's step, or the exported function on a server. No TensorFlow."""

from typing import Any

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import Slice
from efficientnet_tpu.plan import flops as operation_model
from efficientnet_tpu.plan import roofline

_MIB = 2**20
_WHAT = {"evaluation": "an evaluation step", "serving": "the exported function of prepared images"}


def inference_report(planner: Any, tpu: Slice) -> str:
    """Memory, time and images a second of --eval_batch_size images, spread over the cores of a slice.

    planner: a `tpu_plan.Planner`. Raises UserError for a batch that does not divide over the cores.
    """
    config, architecture = planner.config, planner.architecture
    batch_size = config.eval.eval_batch_size
    if batch_size % tpu.num_cores:
        raise UserError(
            f"--eval_batch_size={batch_size}: does not divide over the {tpu.num_cores} cores of {tpu.name}. Use "
            f"{-(-batch_size // tpu.num_cores) * tpu.num_cores}."
        )
    estimate = planner.estimate(tpu, batch_size)
    found, per_core = estimate.compilation, batch_size // tpu.num_cores
    label = "compiled" if estimate.is_compiled else "modelled"
    flops = operation_model.step_flops(architecture)
    matrix = sum(flops[name] for name in flops if name not in operation_model.ON_VECTOR_UNITS) / 3
    share = operation_model.mxu_share(architecture, tpu.generation.mxu_size)
    time = roofline.step_time(
        tpu,
        roofline.Work(
            found.flops,
            per_core * matrix,
            share,
            found.hbm_bytes,
            0.0,
            found.cycles if estimate.row.key.kind == tpu.kind else 0,
        ),
    )
    fits = found.fits and found.needed_bytes <= tpu.generation.hbm_limit
    lines = [
        f"{architecture.name} at {architecture.resolution} x {architecture.resolution} on {tpu.name}, "
        f"{_WHAT[config.plan.plan_step]}: {batch_size:,} images, {per_core:,} a core: "
        f"{'fits' if fits else 'does NOT fit'}.",
        f"{label.capitalize()}{'' if estimate.is_compiled else ': scaled from a step compiled'} by "
        f"{estimate.row.compiler}.",
        "",
        f"HBM of a core: {found.needed_bytes / 2**30:.2f} GiB of the {tpu.generation.usable_gib:.2f} GiB that a "
        f"program may have [{label}]",
        f"  weights and images {found.argument_bytes / _MIB:>10,.1f} MiB",
        f"  activations        {found.temp_bytes / _MIB:>10,.1f} MiB",
        f"  program            {found.code_bytes / _MIB:>10,.1f} MiB",
        "",
        f"A core's step: {found.flops / 1e9:,.1f} GFLOP, {found.hbm_bytes / 1e9:,.2f} GB to and from HBM [{label}]",
        f"  {time.at_best * 1e3:,.2f} to {time.at_worst * 1e3:,.2f} ms; {batch_size / time.at_worst:,.0f} to "
        f"{batch_size / time.at_best:,.0f} images/s on all cores [modelled; no TPU has timed it]",
    ]
    return "\n".join(lines)
