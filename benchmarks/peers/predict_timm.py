"""timm's inference.py, without its start and its table: its dataset, loader, network and the best classes.

The script is in no package, and needs pandas: its loop is written anew of timm's own parts.
"""

from collections.abc import Iterator

import numpy as np
import timm
import torch
from peers.registry import PredictSettings
from timm.data import create_dataset, create_loader, resolve_input_data_config

TOP_K = 5
_OVER_AND_OVER = 10_000  # epochs, as one: a loader runs empty at the end of each


def build(settings: PredictSettings) -> tuple[str, Iterator[np.ndarray]]:
    """Two worker processes unless --workers says otherwise, as the script has it; channels last, which is quicker."""
    return "eager, channels last", _answers(settings)


def _answers(settings: PredictSettings) -> Iterator[np.ndarray]:
    torch.set_num_threads(settings.workers)
    model = timm.create_model(settings.model.replace("-", "_")).eval().to(memory_format=torch.channels_last)
    dataset = create_dataset("", root=settings.data_dir, split="validation")
    dataset.reader.samples = dataset.reader.samples * _OVER_AND_OVER
    data_config = resolve_input_data_config(model, {"input_size": (3, settings.size, settings.size)})
    loader = create_loader(
        dataset,
        batch_size=settings.batch_size,
        use_prefetcher=True,
        num_workers=settings.workers,
        device=torch.device("cpu"),
        **data_config,
    )
    with torch.inference_mode():
        for images, _ in loader:
            output = model(images.contiguous(memory_format=torch.channels_last)).softmax(-1)
            probabilities, indices = output.topk(TOP_K)
            indices.numpy()
            yield probabilities.numpy()
