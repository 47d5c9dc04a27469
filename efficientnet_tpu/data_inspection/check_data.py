"""`main.py check-data`: reads every image as training does, and reports before a run what is wrong with a data set.

To be mended: unreadable images, images in two splits, images under two classes, labels without a class. Worth knowing:
copies, formats other than file names promise, rare kinds of files, classes without images, sizes.
"""

import json
import time

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.datasets import open_splits
from efficientnet_tpu.data_inspection.findings import Finding, find_all
from efficientnet_tpu.data_inspection.image_scan import scan_images
from efficientnet_tpu.data_inspection.summary import format_summary, summarize
from efficientnet_tpu.display.terminal import duration
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.storage import writable
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.write_errors import explained_write_errors

FORMAT = 1  # of the report
_EXAMPLES = 3  # printed of everything that must be mended; the report has all


def check_data(config: Config) -> None:
    """Prints the findings, writes them to --report, and exits with status 1 if something must be mended."""
    report_path = config.output.report
    if report_path:
        writable.check_file(report_path, "report")
    data = open_splits(config.data)  # what is only to be measured on is checked too
    resolution = configured_architecture(config.model, len(data.label_names)).resolution
    splits = data.splits
    start = time.monotonic()
    try:
        scans = {name: scan_images(name, split) for name, split in splits.items()}
    except tf.errors.OpError as error:  # of no single image: gs:// cannot be reached, for example
        raise UserError(f"{config.data.source}: cannot be read: {error.message}") from error
    seconds = time.monotonic() - start
    findings = find_all(data, splits, scans, config.data)
    figures = summarize(data.label_names, scans, resolution)
    must_mend = any(finding.must_mend for finding in findings)
    print_findings(config.data.source, findings, figures, seconds)
    if report_path:
        report = {
            "format": FORMAT,
            "source": config.data.source,
            "fingerprint": data.fingerprint,
            "seconds": round(seconds, 1),
            "must_mend": must_mend,
            "findings": {finding.kind: finding.to_json() for finding in findings},
            **figures,
        }
        with explained_write_errors(f"--report={report_path}"):
            write_atomically(report_path, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        print(f"everything in {report_path}")
    if must_mend:
        raise SystemExit(1)


def print_findings(source: str, findings: list[Finding], figures: dict, seconds: float) -> None:
    """Prints the figures, then the findings with their examples."""
    total = sum(split["num_images"] for split in figures["splits"].values())
    rate = f"{total / seconds:,.0f} images/s"
    print(f"\n{source}: {total:,} images of {figures['num_classes']:,} classes read in {duration(seconds)}, {rate}")
    print(*format_summary(figures), sep="\n")
    for must_mend, heading in ((True, "\nTo be mended:"), (False, "\nWorth knowing:")):
        chosen = [finding for finding in findings if finding.must_mend is must_mend]
        if chosen:
            print(heading)
        for finding in chosen:
            print(*finding.lines(_EXAMPLES), sep="\n")
    if not any(finding.must_mend for finding in findings):
        print("\nNothing has to be mended.")
