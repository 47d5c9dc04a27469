"""timm's network in a training loop written as its train.py is: eager, channels last, RMSpropTF, ModelEmaV2."""

import itertools
from collections.abc import Iterator

import numpy as np
import timm
import torch
from peers.registry import TrainSettings
from peers.train_batch import (
    DROP_PATH,
    DROPOUT,
    EMA_DECAY,
    EPSILON,
    L2,
    LABEL_SMOOTHING,
    MOMENTUM,
    RHO,
    batch,
    learning_rate,
)
from timm.optim import RMSpropTF, param_groups_weight_decay
from timm.utils import ModelEmaV2


def build(settings: TrainSettings) -> tuple[str, Iterator[np.ndarray]]:
    """timm's own efficientnet, padded evenly: the one that it trains, and quicker than its copy of the reference's."""
    torch.set_num_threads(settings.workers)
    model = timm.create_model(settings.model.replace("-", "_"), drop_rate=DROPOUT, drop_path_rate=DROP_PATH)
    model = model.to(memory_format=torch.channels_last).train()
    groups = param_groups_weight_decay(model, L2)
    optimizer = RMSpropTF(groups, learning_rate(settings), alpha=RHO, eps=EPSILON, momentum=MOMENTUM)
    ema = ModelEmaV2(model, EMA_DECAY) if settings.ema else None
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    images, labels = (torch.from_numpy(array) for array in batch(settings))
    images = images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    labels = labels.long()
    mean = 255 * torch.tensor(timm.data.IMAGENET_DEFAULT_MEAN).reshape(1, 3, 1, 1)
    std = 255 * torch.tensor(timm.data.IMAGENET_DEFAULT_STD).reshape(1, 3, 1, 1)

    def train() -> np.ndarray:
        total, correct = torch.zeros(()), torch.zeros((), dtype=torch.long)
        for _ in range(settings.steps):
            logits = model((images.float() - mean) / std)
            loss = criterion(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if ema:
                ema.update(model)
            total += loss.detach()
            correct += (logits.argmax(1) == labels).sum()
        return np.float32(total / settings.steps)

    return "eager, channels last", (train() for _ in itertools.repeat(None))
