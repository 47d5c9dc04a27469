"""When a run saves: at evaluations, every few minutes, before it stops; never weights that are not finite."""

import math
import sys
import time

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import DivergedError
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.hardware.preemption import PREEMPTED, StoppedError, StopRequest
from efficientnet_tpu.run.checkpoint import Checkpoints, NotFiniteError
from efficientnet_tpu.run.checkpoint_names import has_checkpoint
from efficientnet_tpu.run.early_stopping import EarlyStopping
from efficientnet_tpu.run.reports.progress import Progress
from efficientnet_tpu.training import ema
from efficientnet_tpu.training.train_step import State


class CheckpointSchedule:
    """The times at which a run is saved, and its end when it is told to stop."""

    def __init__(
        self,
        config: Config,
        state: State,
        checkpoints: Checkpoints,
        progress: Progress,
        stop_request: StopRequest,
        step: int,
    ) -> None:
        """step: the step the run continues from, which is saved."""
        self._config = config
        self._state = state
        self._checkpoints = checkpoints
        self._progress = progress
        self._stop_request = stop_request
        self._saved_at = time.monotonic()
        self._first_step = self._saved_step = step

    @property
    def early_stopping(self) -> EarlyStopping:
        """The evaluations so far, as last saved."""
        return self._checkpoints.early_stopping

    def steps_to_stop(self, step: int) -> int:
        """Returns the steps from `step` to --stop_at_step; sys.maxsize without one and past it."""
        return self._config.run.stop_at_step - step if self._config.run.stop_at_step > step else sys.maxsize

    def require_finite(self, loss: float, first: int, last: int) -> None:
        """Raises DivergedError if the loss of the steps after `first` up to `last` is not finite."""
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss}", first, last)

    def on_steps(self, step: int) -> None:
        """Saves if --minutes_per_save have passed; then stops if the run is to stop, by StoppedError."""
        is_time = time.monotonic() - self._saved_at > 60 * self._config.run.minutes_per_save
        if distribution.from_chief(self._checkpoints.strategy, int(is_time)):
            self._save_between_evaluations(step)
        self.stop_if_asked(step)

    def on_evaluation(self, step: int, accuracy: float) -> None:
        """Saves after an evaluation with top-1 accuracy `accuracy`, 0..1; also as the best, if it is."""
        self._save(step, self.early_stopping.after(step, accuracy))

    def stop_if_asked(self, step: int) -> None:
        """Saves and raises StoppedError if the process is told to stop or --stop_at_step is reached."""
        asked = distribution.any_host(self._checkpoints.strategy, bool(self._stop_request))
        # A run that continues from --stop_at_step has stopped there before.
        if not (asked or self._first_step < step == self._config.run.stop_at_step):
            return
        self._save_between_evaluations(step)
        saved = f"step {step} is saved in {self._config.run.model_dir}; the same command goes on from there"
        if self._stop_request:
            raise self._stop_request.error(saved)
        if asked:
            raise StoppedError(f"stopped with another host: {saved}", PREEMPTED)
        raise StoppedError(f"stopped by --stop_at_step: {saved}", exit_status=0)

    def _save_between_evaluations(self, step: int) -> None:
        if step != self._saved_step:
            self._save(step, self.early_stopping, announce=True)

    def _save(self, step: int, early_stopping: EarlyStopping, announce: bool = False) -> None:
        """Saves the state after `step` steps; when this returns it is on the disk and has been read back."""
        started = time.monotonic()
        self._progress.on_saving()
        # Replicas may have batch norm statistics of their own. A checkpoint holds their mean. The run continues with
        # the mean too, so that an uninterrupted run equals an interrupted one to the bit.
        ema.synchronize(self._state.model)
        ema.synchronize(self._state.average)
        try:
            self._checkpoints.save(step, early_stopping, self._stop_request)
        except NotFiniteError as error:
            raise self._diverged(f"a weight became infinite ({error})", self._saved_step, step) from error
        self._saved_at, self._saved_step = time.monotonic(), step
        self._progress.on_save(step, self._saved_at - started, early_stopping, announce)

    def _diverged(self, what: str, first: int, last: int) -> DivergedError:
        """Returns the error for what happened in the steps after `first` up to `last`."""
        train = self._config.train
        rate, warmup, clip_norm = train.base_learning_rate, train.lr_warmup_epochs, train.gradient_clip_norm
        where = f"steps {first + 1} to {last}" if last > first + 1 else f"step {last}"
        before = has_checkpoint(self._config.run.model_dir)
        saved = "the newest checkpoint is from before" if before else "there is no checkpoint"
        remedies = [
            f"--base_learning_rate={rate / 2:g} (now {rate:g})",
            f"--lr_warmup_epochs={max(2 * warmup, 1):g} (now {warmup:g})",
            f"--gradient_clip_norm={clip_norm / 2:g} (now {clip_norm:g})" if clip_norm else "--gradient_clip_norm=1",
        ]
        if distribution.precision_policy(self._config.hardware, self._checkpoints.strategy) != "float32":
            remedies.append("--precision=float32")
        return DivergedError(
            f"{what} in {where}. Nothing of them was saved in {self._config.run.model_dir}: {saved}.\n"
            f"What usually helps, with the same command otherwise: {', '.join(remedies[:-1])}, or {remedies[-1]}."
        )
