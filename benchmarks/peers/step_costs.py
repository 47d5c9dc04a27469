"""What this project's training costs beside its compiled step: `python -m peers.step_costs SETTINGS ROUNDS`.

In one process, in turns: `run`, the training loop with its reports; `step`, the compiled step of it alone, called on a
batch in memory; `bare`, a step compiled without moving average and metrics. Prints the CPU seconds of a step in every
round: {"run": [...], "step": [...], "bare": [...]}.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from unittest import mock

import tensorflow as tf
from peers.project import begin, make_run
from peers.registry import TrainSettings
from peers.train_batch import batch

from efficientnet_tpu.training import ema
from efficientnet_tpu.training.train_step import State, make_train_step


def main() -> None:
    """Measures and prints."""
    answers = os.fdopen(os.dup(1), "w")  # the loop's reports go to stderr
    os.dup2(2, 1)
    print(json.dumps(measure(TrainSettings(**json.loads(sys.argv[1])), int(sys.argv[2]))), file=answers, flush=True)


def measure(settings: TrainSettings, rounds: int) -> dict[str, list[float]]:
    """See above."""
    config, strategy, schedule, state = begin(settings)
    images, labels = (tf.constant(array) for array in batch(settings))

    def calls(state: State) -> Callable[[], None]:
        step = make_train_step(state, config.train, 0, strategy.num_replicas_in_sync)
        step = tf.function(step, autograph=False)  # of which mocks are no friends

        def several() -> None:
            for _ in range(settings.steps):
                strategy.run(step, args=(images, labels))
            state.optimizer.iterations.numpy()  # waits

        several()  # traces
        return several

    step = make_train_step(state, config.train, 0, strategy.num_replicas_in_sync)
    kinds = {"run": make_run(settings, config, strategy, schedule, state, step), "step": calls(state)}
    with mock.patch.object(ema, "update"):
        kinds["bare"] = calls(dataclasses.replace(state, loss=mock.Mock(), accuracy=mock.Mock()))
    kinds["run"]()
    costs: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds):
        # The first in a round may find other caches than the last: each takes its turn at being first.
        names = list(kinds)[number % 3 :] + list(kinds)[: number % 3]
        for name in names:
            started = time.process_time()
            kinds[name]()
            costs[name].append((time.process_time() - started) / settings.steps)
    return costs


if __name__ == "__main__":
    main()
