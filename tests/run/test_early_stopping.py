"""Which evaluation is the best, and when waiting for a better one ends."""

import itertools

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run.early_stopping import EarlyStopping, evaluation_steps


def _after_each(accuracies):
    """The summary after each evaluation, one a step."""
    return list(
        itertools.accumulate(
            enumerate(accuracies, 1), lambda before, entry: before.after(*entry), initial=EarlyStopping()
        )
    )[1:]


def test_a_checkpoints_text_is_read_back_or_refused():
    for after in _after_each([0.2, 0.7, 1.0]):
        assert EarlyStopping.from_json(after.to_json().encode(), "ckpt-1") == after
    assert EarlyStopping.from_json(b"{}", "ckpt-1") == EarlyStopping()
    refused = [
        b"", b"[1]", b"3", b"null", b"\xff", b'{"later": 1}', b'{"best_step": -1}', b'{"best_step": "3"}',
        b'{"best_step": 1.5}', b'{"evaluated_step": null}', b'{"best_accuracy": 1.5}', b'{"best_accuracy": "a\\nb"}',
        b'{"evaluated_accuracy": NaN}', b'{"evaluated_accuracy": true}', b"[" * 9999,
    ]  # fmt: skip
    for content in refused:
        with pytest.raises(UserError, match=r"^run/ckpt-1: the evaluations .* cannot be read: .*Another program"):
            EarlyStopping.from_json(content, "run/ckpt-1")


def test_the_best_is_the_last_of_the_highest():
    bests = [(after.best_step, after.best_accuracy) for after in _after_each([0.2, 0.7, 0.6, 0.7, 0.1])]
    assert bests == [(1, 0.2), (2, 0.7), (2, 0.7), (4, 0.7), (4, 0.7)]


def test_an_accuracy_of_zero_is_a_best_too():
    assert _after_each([0.0])[0] == EarlyStopping(
        evaluated_step=1, best_step=1, best_accuracy=0.0, evaluations_since_best=0, evaluated_accuracy=0.0
    )


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
    stopped = [step for step, after in enumerate(_after_each(accuracies), 1) if after.should_stop(patience)]
    assert (stopped[0] if stopped else None) == stops_after


@pytest.mark.parametrize(
    ("total_steps", "interval", "step", "evaluated", "expected"),
    [
        (10, 4.0, 0, 0, [4, 8, 10]),
        (10, 5.0, 0, 0, [5, 10]),
        (10, 2.5, 0, 0, [3, 5, 8, 10]),  # epochs need not be whole steps: the first step past each
        (10, 2.5, 5, 5, [8, 10]),
        (10, 2.5, 7, 5, [8, 10]),  # saved between two evaluations
        (10, 2.5, 8, 5, [8, 10]),  # saved, but stopped before it was evaluated
        (10, 100.0, 0, 0, [10]),
        (3, 0.5, 0, 0, [1, 2, 3]),
        (10, 4.0, 10, 8, [10]),
        (10, 4.0, 10, 10, []),
    ],
)
def test_evaluation_steps(total_steps, interval, step, evaluated, expected):
    assert evaluation_steps(total_steps, interval, step, EarlyStopping(evaluated_step=evaluated)) == expected
