"""What an accelerator does with this program, in one prepared run of some minutes. See README.md.

    python benchmarks/accelerator.py --json=accelerator.json

Each part is a process of its own with a time of its own: none ends the others, and what has been measured is written
after each part. It takes whatever device there is: a TPU, GPUs, or the CPU.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TAIL = 1500  # characters of a failed part's output that are kept


@dataclass(frozen=True)
class Part:
    """A measurement: a command, and where it leaves its figures.

    report: a file of JSON that the command writes; "" where what it prints is the result. seconds: it may take.
    environment: variables that differ for it.
    """

    name: str
    command: tuple[str, ...]
    report: str = ""
    seconds: float = 90.0
    environment: tuple[tuple[str, str], ...] = ()


@dataclass
class Outcome:
    """What became of a part. seconds: it took. result: its JSON, or the end of what it printed. failure: "" or why."""

    name: str
    command: str
    seconds: float
    result: Any = None
    failure: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all parts. Returns the exit status, 1 if one of them failed."""
    options = _parse(arguments)
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        for part in parts(options, folder):
            left = deadline - time.monotonic()
            print(f"{part.name} ...", flush=True)
            outcomes.append(run(part, min(part.seconds, left)) if left > 5 else skipped(part))
            print(f"  {summary(outcomes[-1])}", flush=True)
            if options.json:
                write(options, outcomes)
    print("\n" + table(outcomes))
    return int(any(one.failure for one in outcomes))


def parts(options: argparse.Namespace, folder: str) -> list[Part]:
    """Returns the parts, those that tell most first."""
    program = (sys.executable, str(ROOT / "main.py"))
    sizes, seconds = options.batch_sizes, f"--seconds={options.seconds:g}"

    def steps(model: str, precision: str, *more: str, xla: bool = False) -> Part:
        report = f"{folder}/train-{model}-{precision}-{'xla' if xla else 'plain'}.json"
        command = (
            *program, "benchmark", "train", f"--model={model}", f"--precision={precision}",
            f"--batch_sizes={sizes}", seconds, f"--report={report}", *more,
        )  # fmt: skip
        environment = (("TF_XLA_FLAGS", "--tf_xla_auto_jit=2"),) if xla else ()
        name = f"train {model} {precision}{' XLA' if xla else ''}"
        return Part(name, command, report, 120.0, environment)

    first, *others = options.models.split(",")
    run = ("--dataset=sample", f"--model_dir={folder}/run")
    inference = f"{folder}/inference.json"
    peer = f"{folder}/peer.json"
    return [
        Part("doctor", (*program, "doctor", "--deep", "--format=json"), seconds=60.0),
        steps(first, "bfloat16"),
        Part(
            f"peer keras.applications {options.peer_model} bfloat16",
            (
                sys.executable, str(ROOT / "benchmarks/peers/keras_on_accelerator.py"), f"--model={options.peer_model}",
                f"--size={options.peer_size}", f"--batch_sizes={sizes}", seconds, f"--report={peer}",
            ),
            peer,
            90.0,
        ),
        *(steps(model, "bfloat16") for model in others),
        steps(first, "float32"),
        steps(first, "bfloat16", xla=True),
        Part("input", (*program, "benchmark", "input", "--dataset=sample", f"--model={first}"), seconds=60.0),
        Part(
            "inference",
            (
                *program, "benchmark", "inference", f"--model={first}", "--runtimes=tensorflow",
                f"--batch_sizes=1,{sizes}", seconds, f"--report={inference}",
            ),
            inference,
        ),
        Part(
            "train, evaluate and save",
            (*program, "--flagfile=quickstart", *run, "--stop_at_step=60", "--train_epochs=1"),
            seconds=90.0,
        ),
        Part(
            "resume proof",
            (
                *program, "verify-resume", "--flagfile=quickstart", "--dataset=sample", f"--model_dir={folder}/proof",
                "--verify_steps=20", "--verify_kills=1",
            ),
            seconds=120.0,
        ),
        Part(
            "export",
            (*program, "export", f"--model_dir={folder}/run", f"--output_dir={folder}/export"),
        ),
    ]  # fmt: skip


def run(part: Part, seconds: float) -> Outcome:
    """Runs a part for at most `seconds`. Whatever happens is an outcome."""
    started = time.monotonic()
    outcome = Outcome(part.name, " ".join(part.command), 0.0)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, **dict(part.environment)}
    try:
        done = subprocess.run(
            part.command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
        outcome.result = _result(part, done.stdout)
        if done.returncode and part.name != "doctor":  # whose status is what it found
            outcome.failure = f"status {done.returncode}\n{(done.stderr or done.stdout)[-TAIL:].strip()}"
    except subprocess.TimeoutExpired as ended:
        printed = ended.stdout.decode(errors="replace") if isinstance(ended.stdout, bytes) else ended.stdout or ""
        outcome.failure = f"ended after {seconds:.0f} s\n{printed[-TAIL:].strip()}"
    except (OSError, ValueError) as error:
        outcome.failure = str(error)
    outcome.seconds = time.monotonic() - started
    return outcome


def _result(part: Part, printed: str) -> Any:
    if part.report:
        return json.loads(Path(part.report).read_text()) if Path(part.report).exists() else None
    try:
        return json.loads(printed)
    except ValueError:
        return printed[-TAIL:].strip()


def skipped(part: Part) -> Outcome:
    """Returns the outcome of a part for which no time is left."""
    return Outcome(part.name, " ".join(part.command), 0.0, failure="no time left; raise --minutes")


def summary(outcome: Outcome) -> str:
    """Returns a line on an outcome."""
    if outcome.failure:
        first, *others = outcome.failure.splitlines()
        return f"failed: {': '.join([first, *others[-1:]])[:200]}"
    return f"{outcome.seconds:.0f} s"


def table(outcomes: Sequence[Outcome]) -> str:
    """Returns a Markdown table of the steps and calls that were timed, and lines on the other parts."""
    lines = ["| part | device | batch | images/s | ms, p50 | peak GB |", "|---|---|---|---|---|---|"]
    others = []
    for one in outcomes:
        timings = one.result.get("timings", []) if isinstance(one.result, dict) else []
        for row in timings:
            peak = (row["device_peak_bytes"] or row["peak_bytes"]) / 1e9
            cells = (
                [f"{row['images_per_second']:,.1f}", f"{row['p50_ms']:.4g}", f"{peak:.2f}"]
                if not row["failure"]
                else [row["failure"], "", ""]
            )
            lines.append(f"| {' | '.join([one.name, row['name'], str(row['batch_size']), *cells])} |")
        if not timings:
            others.append(f"{one.name}: {summary(one)}")
    return "\n".join([*lines, "", *others])


def write(options: argparse.Namespace, outcomes: Sequence[Outcome]) -> None:
    """Writes all outcomes so far to --json; the file is whole at any moment."""
    content = {"options": vars(options), "parts": [dataclasses.asdict(one) for one in outcomes]}
    temporary = f"{options.json}.{os.getpid()}.tmp"
    Path(temporary).write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, options.json)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", default="efficientnet-b0,efficientnet-b4", help="the first is measured most")
    parser.add_argument("--batch_sizes", default="64,256", help="images of a step, with commas between")
    parser.add_argument("--peer_model", default="EfficientNetB0", help="of keras.applications")
    parser.add_argument("--peer_size", type=int, default=224, help="side of the peer's images")
    parser.add_argument("--seconds", type=float, default=3.0, help="that each row is measured for")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no further part begins")
    parser.add_argument("--json", default="", help="file for all that was measured")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
