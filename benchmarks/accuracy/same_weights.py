"""Whether the contestants start from the same weights: the logits of made-up images by each of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from peers.live import environment

MOST_DIFFERENCE = 1e-3  # of the logits' standard deviation


def check_images() -> np.ndarray:
    """Returns images of colored blocks with noise, uint8 [2, 224, 224, 3], 0..255, always the same."""
    draw = np.random.default_rng(0)
    colors = draw.integers(0, 220, (2, 7, 7, 3)).repeat(32, 1).repeat(32, 2)
    return np.uint8(colors + draw.integers(0, 36, (2, 224, 224, 3)))


def difference(weights: Path, imported: Path, peer_python: str) -> float:
    """Returns the largest difference of timm's and Keras' logits, in standard deviations of them.

    weights: the published file. imported: the directory of this project's import of it.
    """
    calls = [(peer_python, "timm_training", weights), (sys.executable, "keras_training", imported)]
    logits = []
    for python, module, place in calls:
        command = [python, "-m", f"accuracy.{module}", "logits", str(place)]
        done = subprocess.run(command, check=False, env={**os.environ, **environment()}, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        logits.append(np.array(json.loads(done.stdout.splitlines()[-1])))
    return float(abs(logits[0] - logits[1]).max() / logits[1].std())
