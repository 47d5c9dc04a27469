"""The training metrics a run reports: means over the last few steps, and over all steps since the last evaluation."""

import tensorflow as tf

from efficientnet_tpu.training.train_step import State

# (total, count) of a mean
_Sums = dict[str, tuple[float, float]]


class TrainMetrics:
    """Means of what the training step adds to its metrics.

    The metrics are emptied by an evaluation only and are part of checkpoints: what a run reports of the steps between
    two evaluations does not depend on whether it was interrupted. What it reports in between are differences.

    Attribute variables: what a checkpoint has to hold.
    """

    def __init__(self, state: State) -> None:
        self._metrics = {"loss": state.loss, "top_1_accuracy": state.accuracy}
        self.variables = [variable.value for metric in self._metrics.values() for variable in metric.variables]
        self.start()

    def start(self) -> None:
        """Counts from here: at first, or when a checkpoint has been restored."""
        self._before = self._sums()

    def take(self) -> dict[str, float]:
        """Means since the last call."""
        before, sums = self._before, self._sums()
        self._before = sums
        return {
            name: (total - before[name][0]) / max(count - before[name][1], 1.0) for name, (total, count) in sums.items()
        }

    def take_since_evaluation(self) -> dict[str, float]:
        """Means since the last evaluation, under names that begin with train_; then everything starts anew."""
        means = {f"train_{name}": total / max(count, 1.0) for name, (total, count) in self._sums().items()}
        for metric in self._metrics.values():
            metric.reset_state()
        self.start()
        return means

    def _sums(self) -> _Sums:
        return {name: _total_and_count(metric) for name, metric in self._metrics.items()}


def _total_and_count(metric: tf.Module) -> tuple[float, float]:
    total, count = (float(variable.numpy()) for variable in metric.variables)
    return total, count
