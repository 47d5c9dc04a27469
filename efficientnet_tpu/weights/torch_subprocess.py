"""PyTorch's own logits of a weights file, for the certificate of an import: a program by itself, run by any Python.

python torch_subprocess.py QUESTION.npz ANSWER.npy: the question holds uint8 images [n, size, size, 3] and a request in
JSON: loader, name, weights, num_classes, mean and std in units of 0..255. Needs NumPy, PyTorch and the loader's package
and nothing of ours. Ends with status NOT_INSTALLED when one is missing.
"""

import json
import sys
from typing import Any

NOT_INSTALLED = 3


def _model(request: dict[str, Any]) -> Any:
    if request["loader"] == "timm":
        import timm

        return timm.create_model(request["name"], num_classes=request["num_classes"])
    if request["loader"] == "efficientnet_lite_pytorch":
        from efficientnet_lite_pytorch import EfficientNet
    else:
        from efficientnet_pytorch import EfficientNet
    return EfficientNet.from_name(request["name"], num_classes=request["num_classes"])


def _state(path: str) -> dict[str, Any]:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return state.get("state_dict", state)


def main(question: str, answer: str) -> None:
    """Loads, computes, writes."""
    try:
        import numpy as np
        import torch

        with np.load(question) as content:
            images, request = content["images"], json.loads(str(content["request"]))
        model = _model(request)
    except ImportError as error:
        print(f"{error.name} is not installed")
        sys.exit(NOT_INSTALLED)
    model.load_state_dict(_state(request["weights"]), strict=True)
    model.eval()
    normalised = (images.astype(np.float64) - request["mean"]) / request["std"]
    with torch.no_grad():
        rows = [model(torch.from_numpy(image[np.newaxis].transpose(0, 3, 1, 2)).float()) for image in normalised]
    np.save(answer, torch.cat(rows).numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
