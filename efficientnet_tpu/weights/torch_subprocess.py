"""Computes PyTorch's own logits of a weight file: a program of its own, run by any Python.

    python torch_subprocess.py QUESTION.npz ANSWER.npz

The question holds images, float64 [batch, size, size, 3], 0..255, and a request in JSON: loader, name, weights,
num_classes, tensors (from the network's names to the file's, or to null for zeros), and mean and std in units of
0..255; without these timm's own for the name count. The answer holds logits, float32 [batch, num_classes]. The program
needs NumPy, PyTorch and the loader's package, and nothing of this project. It exits with NOT_INSTALLED if one of them
is missing, and with NOT_LOADED if PyTorch does not read the file.
"""

import json
import sys
from typing import Any

NOT_INSTALLED = 3
NOT_LOADED = 4


def main(question: str, answer: str) -> None:
    """Reads the question, computes the logits and writes the answer."""
    try:
        import numpy as np
        import torch

        with np.load(question) as content:
            images, request = content["images"], json.loads(str(content["request"]))
        model: Any
        if request["loader"] == "timm":
            import timm

            model = timm.create_model(request["name"], num_classes=request["num_classes"])
        else:
            if request["loader"] == "efficientnet_lite_pytorch":
                from efficientnet_lite_pytorch import EfficientNet
            else:
                from efficientnet_pytorch import EfficientNet
            model = EfficientNet.from_name(request["name"], num_classes=request["num_classes"])
    except ImportError as error:
        print(f"{error.name} is not installed")
        sys.exit(NOT_INSTALLED)
    load(model, request)
    mean, std = request["mean"], request["std"]
    if mean is None:
        mean, std = (255 * np.array(model.pretrained_cfg[key]) for key in ("mean", "std"))
    normalised = (images - mean) / std
    with torch.no_grad():
        rows = [model(torch.from_numpy(image[np.newaxis].transpose(0, 3, 1, 2)).float()) for image in normalised]
    np.save(answer, torch.cat(rows).numpy())


def load(model: Any, request: dict[str, Any]) -> None:
    """Loads the file into the model, which must have a place for every tensor and a tensor for every place."""
    import torch

    try:
        if request["weights"].endswith(".safetensors"):
            from safetensors.torch import load_file

            state = load_file(request["weights"])
        else:
            state = torch.load(request["weights"], map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (of whatever kind PyTorch raises)
        print(str(error).strip().partition("\n")[0][:200])
        sys.exit(NOT_LOADED)
    for key in ("state_dict", "model"):
        state = state[key] if isinstance(state.get(key), dict) else state
    own = model.state_dict()
    state = {
        ours: torch.zeros_like(own[ours]) if theirs is None else state[theirs]
        for ours, theirs in request["tensors"].items()
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        sys.exit(f"missing in the file: {missing[:3]}; no place in the network: {unexpected[:3]}")
    model.eval()


if __name__ == "__main__":
    main(*sys.argv[1:])
