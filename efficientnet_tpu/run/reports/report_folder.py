"""The place of a run's report: a page and files of what is on it. No TensorFlow."""

import os

from efficientnet_tpu.config.config import Config

PAGE, PREDICTIONS_CSV = "index.html", "predictions.csv"


def report_folder(config: Config) -> tuple[str, str]:
    """Returns the folder that a report goes to, and how an error names it: by its flag where one was given."""
    output = config.output
    if output.report:
        return output.report, f"--report={output.report}"
    if output.output_dir:
        return output.output_dir, f"--output_dir={output.output_dir}"
    folder = folder_in(config.run.model_dir)
    return folder, folder


def folder_in(model_dir: str) -> str:
    """Returns where a run's report is that was given no other place."""
    return os.path.join(model_dir, "report")
