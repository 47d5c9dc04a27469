"""Computes PyTorch's own logits of a weight file: a program of its own, run by any Python.

    python torch_subprocess.py QUESTION.npz ANSWER.npy

The question holds images, uint8 [batch, size, size, 3], and a request in JSON: loader, name, weights, num_classes, and
mean and std in units of 0..255. The answer holds logits, float32 [batch, num_classes]. The program needs NumPy, PyTorch
and the loader's package, and nothing of this project. It exits with NOT_INSTALLED if one of them is missing.
"""

import json
import sys
from typing import Any

NOT_INSTALLED = 3


def main(question: str, answer: str) -> None:
    """Reads the question, computes the logits and writes the answer."""
    try:
        import numpy as np
        import torch

        with np.load(question) as content:
            images, request = content["images"], json.loads(str(content["request"]))
        if request["loader"] == "timm":
            import timm

            model: Any = timm.create_model(request["name"], num_classes=request["num_classes"])
        else:
            if request["loader"] == "efficientnet_lite_pytorch":
                from efficientnet_lite_pytorch import EfficientNet
            else:
                from efficientnet_pytorch import EfficientNet
            model = EfficientNet.from_name(request["name"], num_classes=request["num_classes"])
    except ImportError as error:
        print(f"{error.name} is not installed")
        sys.exit(NOT_INSTALLED)
    if request["weights"].endswith(".safetensors"):
        from safetensors.torch import load_file

        state = load_file(request["weights"])
    else:
        state = torch.load(request["weights"], map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
    model.load_state_dict(state, strict=True)
    model.eval()
    normalised = (images.astype(np.float64) - request["mean"]) / request["std"]
    with torch.no_grad():
        rows = [model(torch.from_numpy(image[np.newaxis].transpose(0, 3, 1, 2)).float()) for image in normalised]
    np.save(answer, torch.cat(rows).numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
