"""Whether the hosts of a TPU prepare images as fast as it trains on them. Nothing here needs TensorFlow."""

from efficientnet_tpu.installation import program
from efficientnet_tpu.plan.report import Plan, between

# vCPUs of the host of so many chips: docs.cloud.google.com/tpu/docs/v5e, "VM types". Of other kinds no figure was read.
HOST_CPUS = {"v5e": {1: 24, 4: 112, 8: 224}}
# CPU milliseconds that the pipeline takes for a photograph of 99 kB, measured on one core (benchmarks/README.md): at
# resolution 224 1.09, with AutoAugment 1.22, and with it at 380 1.62.
_AT_224, _OF_AUGMENTING, _PER_PIXEL = 1.09, 0.13, (1.62 - 1.22) / (380**2 - 224**2)


def cpu_ms(resolution: int, augments: bool) -> float:
    """Returns the CPU milliseconds of one image, from what the pipeline took on another machine."""
    return _AT_224 + _OF_AUGMENTING * augments + _PER_PIXEL * (resolution**2 - 224**2)


def describe_feed(plan: Plan, augments: bool) -> str:
    """Returns the line on the images that a host must prepare, and on those that it does, where that is known.

    The rate is --host_images_per_second where given; else the host's CPUs over --host_cpu_ms or what the pipeline took
    elsewhere.
    """
    needed = [cost.images_per_second_per_host for cost in plan.expected_costs or (plan.lowest_cost,)]
    takes = f"{needed[0]:,.0f} images/s"
    if len(needed) > 1:
        takes += f" ({between(min(needed), max(needed))})"
    rate, measured = plan.host_images_per_second, "as given"
    cost = plan.host_cpu_ms or cpu_ms(plan.architecture.resolution, augments)
    of_an_image = f"{cost:.2f} ms of CPU an image, " + (
        "as given" if plan.host_cpu_ms else "measured elsewhere (--host_cpu_ms)"
    )
    if not rate:
        chips_of_host = plan.tpu.num_chips // plan.tpu.num_hosts
        cpus = HOST_CPUS.get(plan.tpu.kind, {}).get(chips_of_host, 0)
        if not cpus:
            busy = needed[0] * cost / 1000
            return (
                f"Input: each host must prepare {takes}, which keeps {busy:,.0f} cores busy at {of_an_image}; "
                "`nproc` on the host says how many it has"
            )
        rate, measured = cpus * 1000 / cost, f"{cpus} vCPUs at {of_an_image}"
    if rate >= max(needed):
        verdict = "enough"
    elif rate >= min(needed):
        verdict = "enough at the slow end of the band, not at the fast one"
    else:
        hours = plan.num_steps * plan.batch_size / (rate * plan.tpu.num_hosts) / 3600
        verdict = f"NOT enough: at least {hours:,.0f} hours, the TPU waiting"
    return (
        f"Input: each host must prepare {takes}, and does {rate:,.0f} ({measured}): {verdict}; "
        f"`{program()} benchmark input` measures it"
    )
