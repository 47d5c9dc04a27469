"""Training metrics: means over the last few steps, and over all steps since the last evaluation."""

from efficientnet_tpu.training.train_step import State


class TrainMetrics:
    """The means of what training steps add to the loss and accuracy of the state.

    Only an evaluation resets the metrics, and they are part of checkpoints: the means over the steps between two
    evaluations do not depend on an interruption. The means of `take` are differences between two calls.

    Attributes: `variables`, to be kept in checkpoints.
    """

    def __init__(self, state: State) -> None:
        self._metrics = {"loss": state.loss, "top_1_accuracy": state.accuracy}
        self.variables = [variable.value for metric in self._metrics.values() for variable in metric.variables]
        self.start()

    def start(self) -> None:
        """Begins the steps of the next `take` here: at the start, or after a checkpoint is restored."""
        # Differences of sums rather than a reset: a reset between evaluations would lose what a checkpoint has to hold.
        self._before = self._sums()

    def take(self) -> dict[str, float]:
        """Returns loss (nats) and top_1_accuracy (0..1), means since the last call."""
        before, sums = self._before, self._sums()
        self._before = sums
        return {
            name: (total - before[name][0]) / max(count - before[name][1], 1.0) for name, (total, count) in sums.items()
        }

    def take_since_evaluation(self) -> dict[str, float]:
        """Returns train_loss and train_top_1_accuracy, means since the last evaluation; resets them."""
        means = {f"train_{name}": total / max(count, 1.0) for name, (total, count) in self._sums().items()}
        for metric in self._metrics.values():
            metric.reset_state()
        self.start()
        return means

    def _sums(self) -> dict[str, tuple[float, float]]:
        """Returns (total, count) of each metric."""
        sums = {}
        for name, metric in self._metrics.items():
            total, count = (float(variable.numpy()) for variable in metric.variables)
            sums[name] = total, count
        return sums
