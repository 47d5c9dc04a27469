"""Where the CPU time of a training step goes, by kind of kernel, beside the machine's matrix peak. See README.md.

    python benchmarks/step_kernels.py

Samples this project's step by Linux' `perf`: CPU time, which other programs on the machine do not lengthen much.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

# Makes oneDNN write the names of its compiled kernels, and is read when TensorFlow is loaded.
os.environ["ONEDNN_JIT_PROFILE"] = "2"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tensorflow as tf
from peers.project import begin
from peers.registry import TrainSettings
from peers.train_batch import NUM_CLASSES, batch

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.models import complexity
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.training.train_step import make_train_step

# The first pattern that a symbol contains decides.
KINDS = {
    "batch norm": r"bnorm",
    "depthwise convolutions": r"dw_conv|brdgmm|[Dd]epthwise",
    "other convolutions, products of matrices": r"1x1_conv|brgemm|gemm|jit_avx512\w*conv",
    "swish and other elementwise operations of oneDNN": r"jit_uni_|eltwise",
    "Eigen: optimizer, average of the weights, gradients, squeeze-and-excitation": r"Eigen::internal",
    "threads and TensorFlow's scheduling": r"GlobalSteal|RunQueue|ThreadPool|EventCount|Task::|ExecutorState"
    r"|finish_task|spin_unlock|sched|futex|pthread|tls_get",
    "memory: copies, allocation, page faults": r"memmove|memset|malloc|free|page|fault|alloc|reorder|transpose|charge",
}
_LINE = re.compile(r"\s+(?P<percent>[\d.]+)%\s+(?P<file>\S+(?: tid \d+)?)\s+\[.\]\s(?P<symbol>.*)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints a table."""
    options = _parse(arguments)
    architecture = configured_architecture(with_options(Config(), {"model": options.model}).model, NUM_CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        step = _make_step(options, architecture.resolution, folder)
        report, cpu_seconds = _sample(step, options.steps, folder)
    # A multiply-add is two operations; the gradients of images and of weights are as many again each.
    gigaflop = 6 * complexity.count(architecture).multiply_adds * options.batch_size / 1e9
    peak = matrix_peak()
    speed = gigaflop / cpu_seconds
    print(
        f"{options.model}, {architecture.resolution} px, batches of {options.batch_size}: {cpu_seconds:.2f} "
        f"CPU s a step, {speed:.0f} GFLOP a CPU second,\n{speed / peak:.0%} of a product of matrices ({peak:.0f}); "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    print(table(report))


def table(report: str) -> str:
    """Returns Markdown of `perf report --sort dso,symbol --stdio`: the share of each kind of kernel."""
    shares: Counter[str] = Counter()
    for line in report.splitlines():
        if match := _LINE.match(line):
            kinds = (kind for kind, pattern in KINDS.items() if re.search(pattern, match["symbol"]))
            shares[next(kinds, "what is not known by name")] += float(match["percent"])
    return "\n".join(
        ["| kind | share |", "|---|---|", *(f"| {kind} | {its:.0f} % |" for kind, its in shares.most_common())]
    )


def matrix_peak(side: int = 2048, rounds: int = 7) -> float:
    """Returns GFLOP a CPU second of the product of two float32 matrices, the best of some rounds."""
    matrix = tf.random.normal([side, side])
    tf.linalg.matmul(matrix, matrix)
    best = 0.0
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(4):
            tf.linalg.matmul(matrix, matrix)
        best = max(best, 4 * 2 * side**3 / (time.process_time() - started) / 1e9)
    return best


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="efficientnet-b0", help="any of this project")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="sampled")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    for name in ("batch_size", "steps", "threads"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}={getattr(options, name)}: must be above 0")
    return options


def _make_step(options: argparse.Namespace, size: int, folder: str) -> Callable[[], None]:
    settings = TrainSettings(options.model, size, options.batch_size, True, 1, options.threads, folder)
    config, strategy, _, state = begin(settings)
    images, labels = (tf.constant(array) for array in batch(settings))
    train_step = make_train_step(state, config.train, 0, strategy.num_replicas_in_sync)
    compiled = tf.function(train_step, autograph=False)

    def step() -> None:
        strategy.run(compiled, args=(images, labels))
        state.optimizer.iterations.numpy()  # waits

    step()  # traces
    step()
    return step


def _sample(step: Callable[[], None], steps: int, folder: str) -> tuple[str, float]:
    """Returns perf's report on some steps, and the CPU seconds of one."""
    file = f"{folder}/perf.data"
    command = ["perf", "record", "-e", "task-clock", "-F", "199", "-o", file, "-p", str(os.getpid())]
    perf = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(2.0)  # until it has begun
    started = time.process_time()
    for _ in range(steps):
        step()
    cpu_seconds = (time.process_time() - started) / steps
    perf.send_signal(signal.SIGINT)
    _, message = perf.communicate()
    if not os.path.exists(file):
        sys.exit(f"perf took no samples:\n{message.decode()}")
    command = ["perf", "report", "-i", file, "--sort", "dso,symbol", "--stdio", "-g", "none"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout, cpu_seconds


if __name__ == "__main__":
    main()
