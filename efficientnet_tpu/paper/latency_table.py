"""The paper's Table 4, measured here: EfficientNets and what they are compared with, one image on one core."""

from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.paper import latency, other_networks, published
from efficientnet_tpu.paper.paper_table import HERE, Counted, PaperTable
from efficientnet_tpu.paper.tables import PAPER


def table_4() -> PaperTable:
    """Takes minutes: B7 alone costs a core some seconds an image. Binds the process to one core."""
    core = latency.use_one_core()
    rows: list[tuple[str | Counted, ...]] = []
    before: latency.Latency | None = None
    for row in published.rows("table4"):
        print(f"measuring {row['model']} ..." if row["ours"] else f"{row['model']}: no public network", flush=True)
        found = _measure(row["ours"]) if row["ours"] else None
        rows.append((
            row["model"],
            row["top_1"],
            f"{row['seconds']} s",
            Counted(found.mean, f"{found.mean:.3f} s") if found else "",
            Counted(found.minimum, f"{found.minimum:.3f} s") if found else "",
            row["speed_up"],
            *_speed_ups(before if row["speed_up"] else None, found),
        ))  # fmt: skip
        before = found
    columns = (
        ("model", ""), ("top-1", PAPER), ("mean", PAPER), ("mean", HERE), ("fastest", HERE), ("speed-up", PAPER),
        ("speed-up", HERE), ("of fastest", HERE),
    )  # fmt: skip
    notes = (
        f"Paper: one core of an Intel Xeon E5-2690, mean of {latency.RUNS} runs. Here: {latency.processor()}, {core}, "
        f"mean of {latency.RUNS} runs after {latency.WARM_UP_RUNS} that do not count, float32, tf.function.",
        "Speed-up: over the row above. GPipe's network is not public, so its second speed-up cannot be measured.",
    )
    return PaperTable("table4", "Table 4: inference latency of one image", columns, tuple(rows), notes)


def _measure(name: str) -> latency.Latency:
    if name in MODELS:
        return latency.measure_architecture(scale(name, MODELS[name], NUM_IMAGENET_CLASSES), latency.RUNS)
    return latency.measure(other_networks.build(name), other_networks.RESOLUTIONS[name], latency.RUNS)


def _speed_ups(before: latency.Latency | None, found: latency.Latency | None) -> list[str | Counted]:
    """Of the means, and of the fastest runs, which other work on the machine disturbs less."""
    if before is None or found is None:
        return ["", ""]
    ratios = before.mean / found.mean, before.minimum / found.minimum
    return [Counted(ratio, f"{ratio:.1f}x") for ratio in ratios]
