"""Describes what an evaluation measured: images, their preparation, weights, arithmetic."""

from dataclasses import dataclass

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.preprocessing import crop_padding
from efficientnet_tpu.models.architecture import Architecture


@dataclass(frozen=True)
class Measurement:
    """The circumstances of an evaluation.

    images: which of the data set, as "validation". source: the flag that named the set. fingerprint: of the set.
    resolution: in pixels. crop: share of the shorter side. interpolation: "bicubic" or "bilinear". downscale: how
    pictures far larger than that are reduced, one of DOWNSCALES. weights: "average" or "raw". batch_norm: --bn_mode of
    the training. precision: Keras' name of the policy.
    """

    images: str
    source: str
    fingerprint: str
    resolution: int
    crop: float
    interpolation: str
    downscale: str
    weights: str
    batch_norm: str
    precision: str

    def describe(self, num_images: float) -> str:
        """Returns '688 images of 3f2a91c4 at 192 px, crop 0.857, bilinear, averaged weights, float32'."""
        reference = ", downscale reference" if self.downscale == "reference" else ""
        frozen = ", batch norm frozen" if self.batch_norm == "frozen" else ""
        weights = "averaged" if self.weights == "average" else self.weights
        return (
            f"{num_images:,.0f} images of {self.fingerprint[:8]} at {self.resolution} px, crop {self.crop:.3f}, "
            f"{self.interpolation}{reference}, {weights} weights{frozen}, {self.precision}"
        )


def describe_measurement(
    config: Config, architecture: Architecture, images: str, fingerprint: str, precision: str
) -> Measurement:
    """Returns the circumstances of evaluating a run's averaged weights by `config`."""
    size = architecture.resolution
    return Measurement(
        images=images,
        source=config.data.source,
        fingerprint=fingerprint,
        resolution=size,
        crop=size / (size + crop_padding(config.data.eval_crop_padding, size)),
        interpolation=architecture.interpolation,
        downscale=config.data.downscale,
        weights="average" if config.train.moving_average_decay else "raw",
        batch_norm=config.train.bn_mode,
        precision=precision,
    )
