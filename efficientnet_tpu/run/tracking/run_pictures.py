"""Writes what TensorBoard shows of a run besides its numbers, after an evaluation, where that costs little."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from efficientnet_tpu.run.tracking.tensorboard import TensorBoard, Throttle
from efficientnet_tpu.training.train_step import State


@dataclass
class RunPictures:
    """The pictures of a run: none of them ends a training.

    kind: of the evaluations. options: of the run, by flag name. first_images: returns the first training images as
    they are augmented, uint8 [count, size, size, 3]; None where the run has begun earlier. confusion: returns the
    counts of the last evaluation, [label, prediction], or None.
    """

    tensorboard: TensorBoard
    state: State
    kind: str
    label_names: Sequence[str]
    options: Mapping[str, Any]
    first_images: Callable[[], np.ndarray] | None
    confusion: Callable[[], np.ndarray | None]
    _throttle: Throttle = field(default_factory=Throttle)

    def on_evaluation(self, step: int) -> None:
        """Writes the pictures of an evaluation that has been saved."""
        try:
            self._throttle.run(lambda: self._write(step))
        except Exception as error:  # noqa: BLE001 - whatever they fail of, they are no reason to end a training
            reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
            print(f"warning: TensorBoard's pictures are left out: {reason[:300]}", flush=True)
            self._throttle = Throttle(most_share=0.0)

    def _write(self, step: int) -> None:
        if self.first_images:
            self.tensorboard.start(self.options, self.first_images(), self.state.model)
            self.first_images = None
        self.tensorboard.weights(step, self.state.model, self.state.optimizer)
        counts = self.confusion()
        if counts is not None:
            self.tensorboard.confusion(self.kind, step, counts, self.label_names)
