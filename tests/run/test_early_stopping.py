"""Which evaluation is the best, and when waiting for a better one ends."""

import itertools

import pytest

from efficientnet_tpu.run.early_stopping import EarlyStopping


def _of(accuracies):
    """The selection after each evaluation, one a step."""
    added = enumerate(accuracies, 1)
    return list(
        itertools.accumulate(added, lambda selection, entry: selection.after(*entry), initial=EarlyStopping())
    )[1:]  # fmt: skip


def test_the_best_is_the_last_of_the_highest():
    bests = [(selection.best_step, selection.best_accuracy) for selection in _of([0.2, 0.7, 0.6, 0.7, 0.1])]
    assert bests == [(1, 0.2), (2, 0.7), (2, 0.7), (4, 0.7), (4, 0.7)]


def test_an_accuracy_of_zero_is_a_best_too():
    assert _of([0.0])[0] == EarlyStopping(evaluated_step=1, best_step=1, best_accuracy=0.0, evaluations_since_best=0)


@pytest.mark.parametrize(
    ("patience", "accuracies", "stops_after"),
    [
        (1, [0.1, 0.2, 0.3], None),
        (1, [0.1, 0.2, 0.2], 3),  # as good is not better
        (2, [0.3, 0.1, 0.2, 0.25], 3),
        (2, [0.3, 0.1, 0.4, 0.2, 0.3], 5),
        (3, [0.3, 0.3, 0.3], None),
        (0, [0.3] * 50, None),
    ],
)
def test_patience_counts_evaluations_without_a_higher_accuracy(patience, accuracies, stops_after):
    stopped = [step for step, selection in enumerate(_of(accuracies), 1) if selection.should_stop(patience)]
    assert (stopped[0] if stopped else None) == stops_after
