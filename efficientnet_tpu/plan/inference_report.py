"""The report on steps that do not train: an evaluation's step, or the exported function on a server.

Nothing here needs TensorFlow.
"""

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import Slice
from efficientnet_tpu.plan.flops import ON_VECTOR_UNITS, mxu_share, step_flops
from efficientnet_tpu.plan.planner import Planner
from efficientnet_tpu.plan.roofline import Work, step_time

_MIB = 2**20
_TITLES = {"evaluation": "an evaluation step", "serving": "the exported function of prepared images"}


def inference_report(planner: Planner, tpu: Slice) -> str:
    """Returns the text on --eval_batch_size images over the cores of a slice: memory, time and images per second.

    Raises UserError if the batch does not divide evenly among the cores.
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
    # A training step computes every product three times; inference computes it once.
    matrix_flops = sum(n for name, n in step_flops(architecture).items() if name not in ON_VECTOR_UNITS) / 3
    work = Work(
        flops=found.flops,
        matrix_flops=per_core * matrix_flops,
        mxu_share=mxu_share(architecture, tpu.generation.mxu_size),
        hbm_bytes=found.hbm_bytes,
        gradient_bytes=0.0,
        cycles=found.cycles if estimate.cost_row.key.kind == tpu.kind else 0,
    )
    time = step_time(tpu, work)
    fits = found.fits and found.needed_bytes <= tpu.generation.hbm_limit
    lines = [
        f"{architecture.name} at {architecture.resolution} x {architecture.resolution} on {tpu.name}, "
        f"{_TITLES[config.plan.plan_step]}: {batch_size:,} images, {per_core:,} a core: "
        f"{'fits' if fits else 'does NOT fit'}.",
        f"{label.capitalize()}{'' if estimate.is_compiled else ': scaled from a step compiled'} by "
        f"{estimate.cost_row.compiler}.",
        "",
        f"HBM of a core: {found.needed_bytes / 2**30:.2f} GiB of the {tpu.generation.usable_gib:.2f} GiB that a "
        f"program may have [{label}]",
        f"  weights and images {found.argument_bytes / _MIB:>10,.1f} MiB",
        f"  activations        {found.temp_bytes / _MIB:>10,.1f} MiB",
        f"  program            {found.code_bytes / _MIB:>10,.1f} MiB",
        "",
        f"A core's step: {found.flops / 1e9:,.1f} GFLOP, {found.hbm_bytes / 1e9:,.2f} GB to and from HBM [{label}]",
        f"  {time.lower_bound * 1e3:,.2f} to {time.upper_bound * 1e3:,.2f} ms; "
        f"{batch_size / time.upper_bound:,.0f} to {batch_size / time.lower_bound:,.0f} images/s on all cores "
        "[modelled; no TPU has timed it]",
    ]
    return "\n".join(lines)
