"""The expected time of a step: the planner's bound from above, corrected by the public records of this kind of network.

Two records are public of EfficientNets on TPUs, and they disagree: one step took half of the bound, the other one and a
half times as long. What is expected is their geometric mean, and the band reaches from the one to the other. Nothing
here needs TensorFlow.
"""

import math
from dataclasses import dataclass

from efficientnet_tpu.plan.roofline import StepTime


@dataclass(frozen=True)
class PublicRecord:
    """A public record of a training's speed.

    images_per_second: as recorded, of the whole TPU. at_worst: the planner's bound from below of the same step.
    """

    model: str
    tpu_type: str
    batch_size: int
    images_per_second: float
    at_worst: float
    source: str

    @property
    def share_of_bound(self) -> float:
        """Returns the recorded time of a step as a part of the planner's bound from above."""
        return self.at_worst / self.images_per_second


RECORDS = (
    PublicRecord(
        "efficientnet-b4", "v3-8", 256, 8 * 262, 974.0, "Tan & Le 2021, arXiv:2104.00298, table 3: 262 images/s a core"
    ),
    PublicRecord(
        "efficientnet-b0",
        "v2-8",
        2048,
        350 * 1_281_167 / (23 * 3600),
        7473.0,
        "Wongpanich et al. 2020, arXiv:2011.00071, abstract: 350 epochs in 23 hours",
    ),
)
SHORTEST, LONGEST = (chosen(record.share_of_bound for record in RECORDS) for chosen in (min, max))
LIKELY = math.exp(sum(math.log(record.share_of_bound) for record in RECORDS) / len(RECORDS))


@dataclass(frozen=True)
class ExpectedTime:
    """The seconds that a step is expected to take, and the band that the public records leave."""

    likely: float
    shortest: float
    longest: float


def expected_time(time: StepTime) -> ExpectedTime | None:
    """Returns the expected time of a step; None where the compiler's cycles, from which it is reckoned, are unknown."""
    if not time.compiler:
        return None
    shares = (LIKELY, SHORTEST, LONGEST)
    return ExpectedTime(*(max(time.lower_bound, share * time.upper_bound) for share in shares))
