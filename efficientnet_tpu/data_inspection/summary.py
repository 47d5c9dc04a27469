"""Figures of a whole data set: images in a class, sizes, bytes. For a report, and as lines for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from efficientnet_tpu.data_inspection.image_scan import FORMATS, ImageScan

QUANTILES = {"smallest": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "largest": 1.0}
LONG = 3.0  # ratio of the sides above which a crop of aspect 3/4 to 4/3 shows a small part
_NAMED = 5


def summarize(label_names: Sequence[str], scans: Mapping[str, ImageScan], resolution: int) -> dict[str, Any]:
    """Returns the figures of all splits. resolution: the model's, to which images are resized."""
    readable = {name: scan.num_bytes > 0 for name, scan in scans.items()}
    sizes = np.concatenate([scan.sizes[readable[name]] for name, scan in scans.items()])
    num_bytes = np.concatenate([scan.num_bytes[readable[name]] for name, scan in scans.items()])
    formats = np.concatenate([scan.formats[readable[name]] for name, scan in scans.items()])
    ratio = sizes.max(axis=1) / sizes.min(axis=1) if len(sizes) else np.zeros(0)
    return {
        "num_classes": len(label_names),
        "splits": {name: summarize_split(label_names, scan, readable[name]) for name, scan in scans.items()},
        "formats": {name: int(np.sum(formats == index)) for index, name in enumerate(FORMATS)},
        "width": _quantiles(sizes[:, 1]),
        "height": _quantiles(sizes[:, 0]),
        "bytes": _quantiles(num_bytes),
        "resolution": resolution,
        "smaller_than_resolution": int(np.sum(sizes.min(axis=1) < resolution)) if len(sizes) else 0,
        "long": int(np.sum(ratio > LONG)),
        "largest_ratio": round(float(ratio.max()), 2) if len(ratio) else None,
    }


def summarize_split(label_names: Sequence[str], scan: ImageScan, readable: np.ndarray) -> dict[str, Any]:
    """Returns the figures of one split. readable: bool [num_images]."""
    labels = scan.labels[readable & (scan.labels >= 0) & (scan.labels < len(label_names))]
    counts = np.bincount(labels, minlength=len(label_names))
    return {
        "num_images": len(scan.labels),
        "num_unreadable": len(scan.unreadable),
        "num_bytes": int(scan.num_bytes.sum()),
        "labels": [[name, int(count)] for name, count in zip(label_names, counts, strict=True)],
    }


def _quantiles(values: np.ndarray) -> dict[str, int]:
    if not len(values):
        return {}
    found = np.quantile(values, list(QUANTILES.values()), method="nearest")
    return dict(zip(QUANTILES, found.astype(int).tolist(), strict=True))


def format_summary(figures: Mapping[str, Any]) -> list[str]:
    """Returns the lines that a terminal shows of `summarize`."""
    lines = []
    for name, split in figures["splits"].items():
        images = f"{split['num_images']:,} images"
        unreadable = f", {split['num_unreadable']:,} unreadable" if split["num_unreadable"] else ""
        lines.append(f"  {name}: {images}{unreadable}, {split['num_bytes'] / 1e6:,.1f} MB; {describe_classes(split)}")
    formats = [f"{name} {count:,}" for name, count in figures["formats"].items() if count]
    if not formats:
        return lines
    lines += [f"  formats: {', '.join(formats)}", f"  {'':8}{''.join(f'{name:>12}' for name in QUANTILES)}"]
    for what in ("width", "height", "bytes"):
        lines.append(f"  {what:8}{''.join(f'{value:12,}' for value in figures[what].values())}")
    total = sum(split["num_images"] - split["num_unreadable"] for split in figures["splits"].values())
    smaller, resolution = figures["smaller_than_resolution"], figures["resolution"]
    if smaller:
        lines.append(f"  {smaller / total:.1%} have a side under the model's {resolution} pixels, and are enlarged")
    if figures["long"]:
        longest = figures["largest_ratio"]
        lines.append(
            f"  {figures['long']:,} more than {LONG:g} times as long as wide, the longest {longest:g} times: a crop "
            "shows a small part"
        )
    return lines


def describe_classes(split: Mapping[str, Any]) -> str:
    """Returns how images are spread over classes: '12 (cat) to 600 (dog) in a class, none of mouse'."""
    present = sorted((count, name) for name, count in split["labels"] if count)
    missing = [name for name, count in split["labels"] if not count]
    if not present:
        return "no class has any"
    (fewest, small), (most, large) = present[0], present[-1]
    words = f"{fewest:,} ({small}) to {most:,} ({large}) in a class"
    if fewest == most:
        words = f"{fewest:,} in every class"
    if missing:
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        words += f", none of {', '.join(missing[:_NAMED])}{more}"
    return words
