"""A profile of some steps, as xprof and TensorBoard's profile page open it."""

import os

import tensorflow as tf

from efficientnet_tpu.run.tracking.tensorboard import FOLDER


class StepProfiler:
    """Profiles the steps of --profile_steps into model_dir/tensorboard."""

    def __init__(self, model_dir: str, steps: tuple[int, int] | None) -> None:
        self._folder = os.path.join(model_dir, FOLDER)
        self._steps = steps
        self._is_on = False

    def steps_to_boundary(self, step: int) -> int | None:
        """Returns the steps from `step` on to the next at which to call `on_step`; None where there is none."""
        return next((boundary - step for boundary in self._steps or () if boundary > step), None)

    def on_step(self, step: int) -> None:
        """Begins or ends the profile, before the step after `step` steps is made. Prints where it is."""
        if not self._steps:
            return
        first, end = self._steps
        if not self._is_on and first <= step < end:
            tf.profiler.experimental.start(self._folder)
            self._is_on = True
        elif self._is_on and step >= end:
            self.stop()

    def stop(self) -> None:
        """Ends a profile that has begun."""
        if not self._is_on:
            return
        self._is_on, self._steps = False, None
        tf.profiler.experimental.stop()
        print(f"profile written: xprof --logdir={self._folder}, or TensorBoard with the extra profile", flush=True)
