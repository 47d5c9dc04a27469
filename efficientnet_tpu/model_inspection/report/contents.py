"""Everything that is on a report page, as values: `page` writes them as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from efficientnet_tpu.model_inspection.statistics import CalibrationBin, ClassResult, Confusion
from efficientnet_tpu.model_inspection.training_curves import TrainingCurves


@dataclass(frozen=True)
class ShownImage:
    """An image as the model saw it, and what it said of it.

    picture: a PNG or JPEG file. where: a path, or a shard and a record. label, predicted: names, with the
    probabilities, 0..1, that the model gave them. maps: activation maps over the image, by the class they are of.
    """

    picture: bytes
    where: str
    label: str
    label_probability: float
    predicted: str
    confidence: float
    maps: Mapping[str, bytes] | None = None

    @property
    def is_right(self) -> bool:
        """Whether the most probable class is the true one."""
        return self.label == self.predicted


@dataclass(frozen=True)
class SplitSummary:
    """The images of a split. classes: how many have any; fewest, most: (images, class) of those; None where labels are
    known only by reading the images.
    """

    name: str
    images: int
    classes: int | None = None
    fewest: tuple[int, str] | None = None
    most: tuple[int, str] | None = None


@dataclass(frozen=True)
class Report:
    """Everything that is on the page.

    facts: lines under the title. measured: what was measured, in words, up to the source of images. results: of
    evaluate. matrix: int64 [classes, classes], of few classes; else None, and confusion_png shows it. training_images:
    of each class; None where they are not known. errors: the most confident ones, of num_errors. ordinary: images at
    equal distances. maps: images with activation maps; no_maps: why there are none. data_facts: lines. chosen,
    defaults: options as (flag, value, default); chosen are those that have another value. environment: (what, which).
    files: names of what is beside the page.
    """

    title: str
    facts: Sequence[str]
    measured: str
    source: str
    label_names: Sequence[str]
    results: Mapping[str, float]
    classes: Sequence[ClassResult]
    training_images: Sequence[int] | None
    confusions: Sequence[Confusion]
    matrix: np.ndarray | None
    confusion_png: bytes
    calibration: Sequence[CalibrationBin]
    curves: TrainingCurves
    evaluations: Sequence[Mapping[str, float]]
    errors: Sequence[ShownImage]
    num_errors: int
    ordinary: Sequence[ShownImage]
    maps: Sequence[ShownImage]
    splits: Sequence[SplitSummary]
    data_facts: Sequence[str]
    chosen: Sequence[tuple[str, str, str]]
    defaults: Sequence[tuple[str, str, str]]
    environment: Sequence[tuple[str, str]]
    files: Sequence[str]
    no_maps: str = ""
