"""Whether the hosts of a TPU prepare images as fast as it trains on them. Nothing here needs TensorFlow."""

from efficientnet_tpu.installation import program
from efficientnet_tpu.plan.report import Plan, between

# vCPUs of the host of so many chips, as Compute Engine lists its machine types ct3-hightpu-4t to ct6e-standard-4t (by
# github.com/Cyclenerd/google-cloud-pricing-cost-calculator, tools/machinetypes.csv); docs.cloud.google.com/tpu/docs has
# those of v5e, v5p and v6e-4 too. v6e-8 is listed with 360, of which GKE uses one thread of each core. v2's
# is not listed.
HOST_CPUS = {
    "v3": {4: 96},
    "v4": {4: 240},
    "v5e": {1: 24, 4: 112, 8: 224},
    "v5p": {4: 208},
    "v6e": {1: 44, 4: 180, 8: 180},
}
_CPUS_A_CORE = 2  # of which the second adds little to work that keeps the vector units busy; so it is left out
# CPU milliseconds that the pipeline takes for a photograph of 99 kB, measured on one core (benchmarks/README.md): at
# resolution 224 1.09, with AutoAugment 1.22, and with it at 380 1.62.
_AT_224, _OF_AUGMENTING, _PER_PIXEL = 1.09, 0.13, (1.62 - 1.22) / (380**2 - 224**2)


def cpu_ms(resolution: int, augments: bool) -> float:
    """Returns the CPU milliseconds of one image, from what the pipeline took on another machine."""
    return _AT_224 + _OF_AUGMENTING * augments + _PER_PIXEL * (resolution**2 - 224**2)


def describe_feed(plan: Plan, augments: bool) -> list[str]:
    """Returns the lines on the images that a host must prepare and on those that it can: the answer, then its reasons.

    The rate is --host_images_per_second where given; else the host's cores over --host_cpu_ms or what the pipeline took
    elsewhere.
    """
    needed = [cost.images_per_second_per_host for cost in plan.expected_costs or (plan.lowest_cost,)]
    takes = f"{needed[0]:,.0f} images/s"
    if len(needed) > 1:
        takes += f" ({between(min(needed), max(needed))})"
    takes = f"Input: each host must prepare {takes}"
    rate, reasons = _rate(plan, augments)
    if not rate:
        busy = needed[0] * _cost(plan, augments) / 1000
        return [f"{takes}, which keeps {busy:,.0f} cores busy", f"       {reasons}"]
    if rate >= max(needed):
        verdict = "enough"
    elif rate >= min(needed):
        verdict = "enough at the band's slow end"
    else:
        hours = plan.num_steps * plan.batch_size / (rate * plan.tpu.num_hosts) / 3600
        verdict = f"NOT enough, {hours:,.0f} hours at least"
    return [f"{takes} and can do {rate:,.0f}: {verdict}", f"       {reasons}"]


def _cost(plan: Plan, augments: bool) -> float:
    """Returns the CPU milliseconds of one image."""
    return plan.host_cpu_ms or cpu_ms(plan.architecture.resolution, augments)


def _rate(plan: Plan, augments: bool) -> tuple[float, str]:
    """Returns the images a second that a host prepares, 0 where its cores are not known, and what that rests on."""
    if plan.host_images_per_second:
        return plan.host_images_per_second, "as given by --host_images_per_second"
    cost = _cost(plan, augments)
    origin = "as given" if plan.host_cpu_ms else f"measured elsewhere; `{program()} benchmark input` measures it"
    reasons = f"{cost:.2f} ms of CPU an image, {origin}"
    cpus = HOST_CPUS.get(plan.tpu.kind, {}).get(plan.tpu.num_chips // plan.tpu.num_hosts, 0)
    if not cpus:
        return 0.0, reasons
    cores = cpus // _CPUS_A_CORE
    return cores * 1000 / cost, f"{cpus} vCPUs, taken as {cores} cores; {reasons}"
