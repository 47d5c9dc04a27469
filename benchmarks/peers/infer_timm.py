"""timm's network, eager, channels last; its weights random."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import timm
import torch
from peers.inference_batch import normalised
from peers.registry import InferenceSettings


def build(settings: InferenceSettings) -> tuple[str, Iterator[np.ndarray]]:
    """Normalised already."""
    return "eager, channels last", run(settings, lambda model: model)


def run(
    settings: InferenceSettings, prepare: Callable[[torch.nn.Module], Callable[[torch.Tensor], torch.Tensor]]
) -> Iterator[np.ndarray]:
    """Endless logits."""
    torch.set_num_threads(settings.workers)
    model = timm.create_model(settings.model.replace("-", "_")).eval().to(memory_format=torch.channels_last)
    infer = prepare(model)
    batch = torch.from_numpy(normalised(settings)).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in itertools.repeat(None):
            yield infer(batch).numpy()
