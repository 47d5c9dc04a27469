"""When a run saves, beside its evaluations: every so often, before it stops as told, and never what is not finite."""

import math
import sys
import time

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.hardware.preemption import PREEMPTED, StoppedError, StopRequest
from efficientnet_tpu.run.checkpoint import Checkpoints, NotFiniteError
from efficientnet_tpu.run.early_stopping import EarlyStopping
from efficientnet_tpu.run.progress import Progress
from efficientnet_tpu.training import ema
from efficientnet_tpu.training.train_step import State


class CheckpointSchedule:
    """Saves a run and ends it when it is told to."""

    def __init__(
        self,
        config: Config,
        state: State,
        checkpoints: Checkpoints,
        progress: Progress,
        stop_request: StopRequest,
        step: int,
    ) -> None:
        """step: where the run stands, and is saved."""
        self._strategy = checkpoints.strategy  # its hosts save and stop together
        self._config = config
        self._state = state
        self._checkpoints = checkpoints
        self._progress = progress
        self._stop_request = stop_request
        self._saved_at = time.monotonic()
        self._began_at = self._unsaved_from = step

    def steps_to_stop(self, step: int) -> int:
        """Steps from `step` to --stop_at_step; without it, or past it, more than there are."""
        return self._config.run.stop_at_step - step if self._config.run.stop_at_step > step else sys.maxsize

    def save(self, step: int, selection: EarlyStopping, said: bool = False) -> None:
        """Saves the state after `step` steps; it is on the disk, read back, when this returns. said: in a line."""
        started = time.monotonic()
        # Replicas may have batch norm statistics of their own. Checkpoints hold the mean: going on with it too, a run
        # that is not interrupted is the same as one that is.
        ema.synchronise(self._state.model)
        ema.synchronise(self._state.average)
        try:
            self._checkpoints.save(step, selection, self._stop_request)
        except NotFiniteError as error:
            raise self._diverged(f"a weight became infinite ({error})", self._unsaved_from, step) from error
        self._saved_at, self._unsaved_from = time.monotonic(), step
        self._progress.saved(step, self._saved_at - started, said)

    def between_evaluations(self, step: int, selection: EarlyStopping) -> None:
        """Saves when it is time to, or when the run is to stop; then raises StoppedError."""
        is_time = time.monotonic() - self._saved_at > 60 * self._config.run.minutes_per_save
        if distribution.from_chief(self._strategy, int(is_time)):
            self._save_and_say(step, selection)
        self.stop_if_asked(step, selection)

    def stop_if_asked(self, step: int, selection: EarlyStopping) -> None:
        """Saves and raises StoppedError if the process was told to stop, or --stop_at_step is reached."""
        asked = distribution.any_host(self._strategy, bool(self._stop_request))
        # Where the run was taken up at that step, it has stopped there before.
        if not (asked or self._began_at < step == self._config.run.stop_at_step):
            return
        self._save_and_say(step, selection)
        rest = f"step {step} is saved in {self._config.run.model_dir}; the same command goes on from there"
        if self._stop_request:
            raise self._stop_request.stopped(rest)
        if asked:
            raise StoppedError(f"stopped with another host: {rest}", PREEMPTED)
        raise StoppedError(f"stopped by --stop_at_step: {rest}", exit_status=0)

    def require_finite(self, loss: float, first: int, last: int) -> None:
        """Raises UserError if the loss of the steps after `first` up to `last` is no finite number."""
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss}", first, last)

    def _save_and_say(self, step: int, selection: EarlyStopping) -> None:
        if step != self._unsaved_from:
            self.save(step, selection, said=True)

    def _diverged(self, what: str, first: int, last: int) -> UserError:
        train = self._config.train
        where = f"steps {first + 1} to {last}" if last > first + 1 else f"step {last}"
        return UserError(
            f"{what} in {where}. Nothing of them was saved: the newest checkpoint in "
            f"{self._config.run.model_dir} is from before.\nWhat usually helps, with the same command otherwise: "
            f"--base_learning_rate={train.base_learning_rate / 2:g} (now {train.base_learning_rate:g}), "
            f"--lr_warmup_epochs={max(2 * train.lr_warmup_epochs, 1):g} (now {train.lr_warmup_epochs:g}), "
            "--gradient_clip_norm=1, or --precision=float32."
        )
