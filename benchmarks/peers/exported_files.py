"""Writes what the runtimes read: `python -m peers.exported_files ours MODEL SIZE FOLDER`, or `timm` and a batch size.

Weights are random: time does not depend on them.
"""

import sys


def main() -> None:
    """Either half needs libraries that the other does without."""
    kind, model, size, folder, *batch = sys.argv[1:]
    _write_ours(model, int(size), folder) if kind == "ours" else _write_timm(model, int(size), folder, int(batch[0]))


def _write_ours(name: str, size: int, folder: str) -> None:
    import numpy as np
    import tensorflow as tf

    from efficientnet_tpu.config.config import Config, with_options
    from efficientnet_tpu.data.preprocessing import Preparation
    from efficientnet_tpu.exporting import formats
    from efficientnet_tpu.exporting.classifier import Serving
    from efficientnet_tpu.exporting.inference_model import inference_model
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.configured import configured_architecture

    config = with_options(Config(), {"model": name, "resolution": size})
    model = build_model(configured_architecture(config.model, 1000))
    serving = Serving(model, tuple(f"class {index}" for index in range(1000)), Preparation(size, 32), 0)
    tf.io.gfile.makedirs(f"{folder}/ours")
    inference = inference_model(model)
    formats.check_formats(["onnx"])
    for form in ("savedmodel", "onnx", "tflite"):
        formats.write(form, inference, serving, np.zeros((0, size, size, 3), np.uint8), f"{folder}/ours")


def _write_timm(name: str, size: int, folder: str, batch_size: int) -> None:
    import timm
    import torch

    model = timm.create_model(name.replace("-", "_"), exportable=True).eval()
    path = f"{folder}/timm-{batch_size}.onnx"
    torch.onnx.export(model, (torch.randn(batch_size, 3, size, size),), path, external_data=False)


if __name__ == "__main__":
    main()
