"""Importing weights as a user does, and what comes of it."""

import json
from pathlib import Path

from efficientnet_tpu import cli


def import_weights(source, output_dir, *flags):
    cli.main(["main.py", "import-weights", f"--from={source}", f"--output_dir={output_dir}", *flags])
    return json.loads((Path(output_dir) / "certificate.json").read_text())


def imported_logits(output_dir, images):
    """Of the model in an imported directory, as the other commands load it."""
    from efficientnet_tpu.exporting import classifier
    from efficientnet_tpu.run import run_record

    config = run_record.load(str(output_dir)).config
    return classifier.load_serving(config).model(images, training=False).numpy()
