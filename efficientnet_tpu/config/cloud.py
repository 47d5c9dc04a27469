"""The sections of the commands about rented machines: what one would do, and how to start it. They are never stored."""

from dataclasses import dataclass

from efficientnet_tpu.config.option import option

PLAN_EFFORTS = ("full", "memory")
PLAN_STEPS = ("train", "evaluation", "serving")
ENGINES = ("tpu-vm", "gke", "skypilot", "slurm", "vertex")


@dataclass(frozen=True)
class LaunchConfig:
    """Launch"""

    print: bool = option(False, "Print the script; the only thing it does so far.", commands=("launch",))
    on: str = option(
        "tpu-vm",
        "Where it runs. tpu-vm: a script of gcloud commands; gke: a JobSet for kubectl; skypilot: a task with spot "
        "recovery; slurm: an sbatch script; vertex: a custom job.",
        choices=ENGINES,
        commands=("launch",),
    )
    image: str = option(
        "", "gke, vertex: the container image, made from the Dockerfile of this project.", commands=("launch",)
    )
    gpus: str = option(
        "",
        "gke, skypilot, slurm, vertex: GPUs of each machine in place of a TPU, as A100:4.",
        commands=("launch",),
    )
    num_hosts: int = option(
        1, "slurm, vertex: machines with GPUs that train one network.", minimum=1, maximum=1000, commands=("launch",)
    )
    partition: str = option("", "slurm: the partition; left out, the cluster's default.", commands=("launch",))
    tpu_type: str = option(
        "",
        "v2-8, v3-8, v4-8, v5e-8, v5p-8, v6e-8, or a slice of several hosts as v4-32; plan takes several, with commas.",
        commands=("launch", "plan", "scale", "search"),
    )
    tpu_name: str = option("efficientnet", "What the TPU VM, or the job, is called.", commands=("launch",))
    spot: bool = option(
        False, "A spot TPU: cheaper, and taken away at any time. The script gets another.", commands=("launch",)
    )
    queued: bool = option(
        True,
        "Ask for a queued resource, and wait until there is one; --noqueued creates the TPU VM at once, or fails.",
        commands=("launch",),
    )
    reservation: str = option(
        "", "A reservation by name (gcloud alpha), or any: what is reserved for the project.", commands=("launch",)
    )
    flex_start: bool = option(
        False, "A TPU lent for --max_hours when there is one (gcloud alpha).", commands=("launch",)
    )
    max_hours: float = option(
        0.0,
        "End the machine after so many hours from when it is there, with everything saved; 0: when training has ended.",
        minimum=0,
        maximum=10_000,
        commands=("launch",),
    )
    max_cost: float = option(
        0.0,
        "End the machine when it has cost so much, by --price_per_chip_hour; 0: no limit.",
        minimum=0,
        commands=("launch",),
    )
    vm_network: str = option("", "Network of the TPU VM; left out, the project's default.", commands=("launch",))
    vm_subnetwork: str = option("", "Subnetwork of the TPU VM.", commands=("launch",))
    internal_ips: bool = option(
        False,
        "No external address: commands go through Identity-Aware Proxy, and the network needs a Cloud NAT for the "
        "installation.",
        commands=("launch",),
    )
    service_account: str = option(
        "",
        "The account that the TPU VM reads and writes buckets as; left out, the project's default.",
        commands=("launch",),
    )
    vm_labels: str = option("", "Labels of the machine, as team=vision,cost=research.", commands=("launch",))
    data_disk: str = option(
        "",
        "A persistent disk, as projects/PROJECT/zones/ZONE/disks/NAME, that is mounted read-only as /mnt/data, where "
        "--data_dir may then be.",
        commands=("launch",),
    )


@dataclass(frozen=True)
class PlanConfig:
    """Plan"""

    compile: bool = option(
        False,
        "Compile the training step by the TPU compiler, for certainty; minutes, and the extra `plan`.",
        commands=("plan",),
    )
    plan_step: str = option(
        "train",
        "What is planned: train; evaluation, a step of --eval_batch_size images; serving, the exported function "
        "of prepared images on so many.",
        choices=PLAN_STEPS,
        commands=("plan",),
    )
    plan_effort: str = option(
        "full",
        "--compile: full; memory, what the program needs, within 2%, in a sixth of the time; then the rest is "
        "modelled.",
        choices=PLAN_EFFORTS,
        commands=("plan",),
    )
    largest_batch: bool = option(False, "The largest batch that fits, of every type.", commands=("plan",))
    price_per_chip_hour: str = option(
        "",
        "What an hour of one chip costs you, in any currency: 1.2, or for several kinds of TPU v5e=1.2,v6e=2.7. Left "
        "out: a list price, of a date that is said.",
        commands=("plan", "launch"),
    )
    host_images_per_second: float = option(
        0.0,
        "Images that one host prepares in a second, as `main.py benchmark input` measures on it.",
        minimum=0,
        commands=("plan",),
    )
    host_cpu_ms: float = option(
        0.0,
        "CPU milliseconds that preparing an image takes, as `main.py benchmark input` measures; left out, as they were "
        "measured for ImageNet's photographs on another machine.",
        minimum=0,
        commands=("plan",),
    )
    num_images: int = option(
        1_281_167,
        "Training images; left out, those of --data_dir, or ImageNet's.",
        minimum=1,
        commands=("plan",),
    )
    num_classes: int = option(1000, "Classes; left out, ImageNet's.", minimum=2, commands=("plan", "scale"))
    plan_table: str = option(
        "",
        "File that --compile adds its results to and every plan reads. Left out: one in ~/.cache.",
        path=True,
        commands=("plan", "scale", "search"),
    )
