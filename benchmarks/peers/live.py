"""A pipeline as a live process tree: started, asked for batches, frozen while others are measured."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from peers import process_tree
from peers.registry import AnySettings, find_peer


class PeerFailedError(Exception):
    """A pipeline's process ended; the message is the end of what it wrote to stderr."""


@dataclass(frozen=True)
class Turn:
    """One measurement of one pipeline."""

    images: int
    seconds: float
    cpu_seconds: float  # user and system, of the whole tree
    other_cores: float  # that everything else on the machine kept busy meanwhile

    @property
    def cpu_ms_per_image(self) -> float:
        return 1e3 * self.cpu_seconds / self.images

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


class LivePeer:
    """The process tree of one pipeline: frozen except while it starts and during `turn`."""

    def __init__(self, name: str, python: str, settings: AnySettings):
        self.spec, self._settings = find_peer(name, type(settings)), settings
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the object
        started = time.monotonic()
        self._process = _start(name, python, settings, self._stderr)
        try:
            self.description = self._answer()
            self.ready_s = time.monotonic() - started  # from the start of the process to the first batch
        except BaseException:
            self.close()
            raise
        self._signal(signal.SIGSTOP)

    def turn(self, seconds: float) -> Turn:
        """Wakes the tree, measures it for about `seconds` (see server.measure) and freezes it."""
        assert self._process.stdin
        self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # it has ended: _answer says how
            self._process.stdin.write(f"{seconds}\n")
            self._process.stdin.flush()
        answer = self._answer()
        self._signal(signal.SIGSTOP)
        images = answer["batches"] * self._settings.images_per_batch
        return Turn(images, answer["seconds"], answer["cpu_seconds"], answer["other_cores"])

    def memory_mb(self) -> dict[str, float]:
        """See process_tree.memory_mb."""
        return process_tree.memory_mb(self._process.pid)

    def close(self) -> None:
        """Ends the tree."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailedError(_last_words(self._stderr, self._process.wait()))
        return json.loads(line)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # all have ended
            os.killpg(self._process.pid, number)


def probe(name: str, python: str, settings: AnySettings) -> dict[str, Any]:
    """Imports the pipeline once in a process of its own: {"versions"} or {"missing"}. Warms the page cache."""
    with tempfile.TemporaryFile("w+") as stderr:
        process = _start(name, python, settings, stderr, "probe")
        output, _ = process.communicate()
        if process.returncode or not output:
            raise PeerFailedError(_last_words(stderr, process.returncode))
        return json.loads(output)


def _last_words(stderr: IO[str], status: int) -> str:
    stderr.seek(0)
    return stderr.read()[-2000:].strip() or f"exit status {status}"


def _start(name: str, python: str, settings: AnySettings, stderr: IO[str], *words: str) -> subprocess.Popen[str]:
    """Starts a server as the head of a process group of its own, which its workers stay in."""
    return subprocess.Popen(
        [python, "-m", "peers.server", name, type(settings).__name__, json.dumps(dataclasses.asdict(settings)), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, **environment()},
        start_new_session=True,
    )


def environment() -> dict[str, str]:
    """Returns the variables of the environment that every peer gets beside the benchmark's own."""
    benchmarks = Path(__file__).resolve().parent.parent
    return {
        "PYTHONPATH": f"{benchmarks}{os.pathsep}{benchmarks.parent}",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": "tensorflow",
        # torch's threads would otherwise spin while they wait for one that lost its core, and be charged for it.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
