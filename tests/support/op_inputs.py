"""Inputs for augmentation operations: a photograph, and every argument of the published tables."""

import json
from pathlib import Path

import numpy as np

from efficientnet_tpu.data.augment.operations import OPERATIONS, argument
from efficientnet_tpu.data.augment.policies import POLICIES, autoaugment_pixels

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "augment_policies.json").read_text())
SEMANTICS = ("reference", "pil")
LARGE = (224, 224)


def _arguments():
    """{operation: every argument of the published tables, with both signs where it has one}"""
    found = {name: {value or 0.0 for value in row} for name, row in GOLDEN["randaugment"]["arguments"].items()}
    for policy, rows in POLICIES.items():
        for step in (step for row in rows for step in row):
            found[step.name].add(argument(step.name, step.level, *autoaugment_pixels(policy, LARGE[0])))
    # Nothing at all, a fraction of a pixel, and the ends where the semantics part.
    found["Cutout"].add(0.0)
    found["TranslateX"].add(2.5)
    found["Posterize"] |= {0.0, 1.0, 8.0, 9.0}
    found["Solarize"] |= {0.0, 255.0, 256.0}
    found["Brightness"].add(0.0)
    for name, operation in OPERATIONS.items():
        if operation.is_signed:
            found[name] |= {-value for value in found[name]}
    return {name: sorted(found[name]) for name in OPERATIONS}


ARGUMENTS = _arguments()


def photograph(height, width, seed=0):
    """uint8 [height, width, 3] with what a photograph has: light that fades, objects with edges, texture, noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    picture = np.stack([40 + 150 * y, 90 + 60 * np.sin(4 * x + y), 180 - 140 * y * x], -1)
    for _ in range(6):
        (center_y, center_x), radius = generator.random(2), generator.uniform(0.05, 0.3)
        inside = (y - center_y) ** 2 + (x - center_x) ** 2 < radius**2
        picture[inside] = generator.uniform(0, 255, 3) + 25 * np.sin(x[inside] * 60)[:, np.newaxis]
    return np.clip(picture + generator.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)
