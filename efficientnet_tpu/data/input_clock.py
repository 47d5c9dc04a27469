"""The wait for a batch: measured, and limited.

A file on a network place that has stopped answering is neither read nor an error: its reader waits inside of the
operating system, where nothing can end it but the end of the process.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

ANNOUNCED_AFTER = 60.0  # seconds
_POLL = 1.0  # seconds between two looks at the clock


class InputClock:
    """Measures how long a loop waits for its next batch, in a graph or outside, and ends a program that waits too long.

    The loop takes its batches by `next`; `limited` watches from a thread of its own.
    """

    def __init__(self) -> None:
        with tf.init_scope(), tf.device("CPU:0"):
            self._asked = tf.Variable(0.0, trainable=False, dtype=tf.float64)  # when, in Unix time; 0: not waiting

    @tf.autograph.experimental.do_not_convert
    def next(self, iterator: Any) -> tuple[Any, tf.Tensor]:
        """Returns the next batch of an iterator over tuples of tensors, and the seconds waited for it, float64 []."""
        # Control dependencies order the clock around the wait: a graph may run operations in any order.
        asked = tf.timestamp()
        noted = self._asked.assign(asked, read_value=False)
        with tf.control_dependencies([noted] if _in_graph() else []):
            batch = next(iterator)
        with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True) if _in_graph() else []):
            seconds = tf.timestamp() - asked
            self._asked.assign(0.0)
        return batch, seconds

    @contextlib.contextmanager
    def limited(self, flag: str, seconds: float, end: Callable[[str], None] | None = None) -> Iterator[None]:
        """Within this context a wait of more than a minute is announced, and one of `seconds` ends the process.

        flag: the flag that names the images, with its value. seconds: 0 does not end it. end: is called with the error
        message in place of that.
        """
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(over, flag, seconds, end or _end_process), daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()

    def _watch(self, over: threading.Event, flag: str, seconds: float, end: Callable[[str], None]) -> None:
        announced = 0.0  # the wait that was
        limit = f"after {seconds:,.0f} s the run ends" if seconds else "nothing ends the wait"
        while not over.wait(_POLL):
            asked = float(self._asked.numpy())
            waited = time.time() - asked if asked else 0.0
            if waited > ANNOUNCED_AFTER and announced != asked:
                announced = asked
                print(f"waiting for images for {waited:.0f} s: {flag} does not answer; {limit} (--input_timeout)")
            if seconds and waited > seconds:
                end(
                    f"{flag}: no image came for {waited:,.0f} s: where the images are does not answer. The same "
                    "command goes on from the last checkpoint; --input_timeout sets the seconds, 0 waits on."
                )
                return


def _in_graph() -> bool:
    return not tf.executing_eagerly()


def _end_process(message: str) -> None:
    """Ends the process with exit status 1: the thread that waits cannot be interrupted."""
    print(f"error: {message}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
