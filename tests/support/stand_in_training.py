"""Functions for the processes of trials, which take a function by its name."""

import os
import resource
import signal
import sys
import time


def fails(options):
    """Stands in for a training that is refused."""
    print("no such file")
    return 2, 0.0


def waits(options):
    """Stands in for a training that saves and stops when it is told to."""

    def stop(*_):
        print("stopped", flush=True)
        sys.exit(42)

    signal.signal(signal.SIGTERM, stop)
    print("up", flush=True)
    time.sleep(60)


def is_killed(options):
    """Stands in for a training that the system kills."""
    os.kill(os.getpid(), signal.SIGKILL)


def peak_memory(*_):
    """Returns the most bytes that this process has had in memory."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
