"""Errors of TensorFlow, CUDA, libtpu, Google Cloud and packages, as people have reported them, are recognized."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from efficientnet_tpu.installation import shown_path
from efficientnet_tpu.texts import known_errors
from efficientnet_tpu.texts.known_errors import KNOWN_ERRORS, ExplainedError, explained, explanation

GOLDEN = Path(__file__).parents[1] / "golden" / "known_errors"
# A file: the thread, a message from it, a line of dashes, what is printed.
CAPTURED = {path.stem: path for path in sorted(GOLDEN.glob("*.txt"))}


def parts(path):
    head, text = path.read_text().split("\n", 1)
    message, _, expected = text.partition("\n-----\n")
    return head, message, expected


def printed(message):
    return explanation(message).replace(shown_path(sys.executable), "PYTHON") + "\n"


@pytest.mark.parametrize("name", CAPTURED)
def test_a_captured_error_has_its_cause_and_command(name):
    """After a change: `PYTHONPATH=. python tests/texts/test_known_errors.py`, and read the difference."""
    head, message, expected = parts(CAPTURED[name])
    assert re.fullmatch(r"# ([\w./-]+#\d+(, |$)|[A-Za-z ]+ [\d.]+(, |$))+", head)  # a thread, or what said it here
    assert printed(message) == expected
    assert expected.count("\n") == 2
    assert "  try: " in expected


def test_every_known_error_has_a_captured_one():
    found = {known_errors.recognized(parts(path)[1]).name for path in CAPTURED.values()}
    # Of these no thread with the message was found: the words are TensorFlow's, CUDA's and gcloud's own.
    without = {"the GPU's driver is too old", "the bucket is not there"}
    assert {known.name for known in KNOWN_ERRORS} - found == without


def test_every_pattern_has_a_source_and_a_command():
    for known in KNOWN_ERRORS:
        assert re.search(r"#\d+", known.source), known.name
        assert known.cause
        assert known.command()


@pytest.mark.parametrize(
    "message",
    [
        "",
        "ValueError: Shapes (2, 3) and (3, 2) are incompatible",
        "InvalidArgumentError: Input is empty. [Op:DecodeJpeg]",
        "KeyError: 'memory'",
        "OSError: [Errno 28] No space left on device",
        "PermissionDeniedError: /data/run.json; Permission denied",
        "FileNotFoundError: [Errno 2] No such file or directory: 'quota.txt'",
    ],
)
def test_other_errors_are_left_alone(message):
    assert explanation(message) == ""


def test_the_original_stands_below_with_what_it_came_from():
    inner = RuntimeError("OOM when allocating tensor with shape[64,192,300,300]")
    outer = ValueError("in a layer")
    outer.__cause__ = inner
    shown = explained(outer, "--train_batch_size=8")
    assert isinstance(shown, ExplainedError)
    assert shown.exit_status == 1
    first, second, empty, *original = str(shown).split("\n")
    assert first.startswith("out of memory: ")
    assert (second, empty) == ("  try: --train_batch_size=8", "")
    assert original == ["ValueError: in a layer", f"RuntimeError: {inner}"]


def test_memory_that_runs_out_is_explained_by_the_innermost_that_knows():
    def raise_in(*commands):
        if not commands:
            raise MemoryError("Unable to allocate 7.3 GiB for an array with shape (9, 9)")
        with known_errors.explained_out_of_memory(lambda: commands[0]):
            raise_in(*commands[1:])

    with pytest.raises(ExplainedError, match="  try: --eval_batch_size=4\n"):
        raise_in("--train_batch_size=8", "--eval_batch_size=4")
    with pytest.raises(ExplainedError, match="  try: --gradient_accumulation_steps=2 with the same"):
        raise_in("")
    with pytest.raises(KeyError), known_errors.explained_out_of_memory(lambda: "--train_batch_size=8"):
        raise KeyError("memory")


def test_grep_reads_the_patterns_of_gcloud_as_python_does():
    """The script of `launch` hands them to it."""
    messages = [parts(path)[1] for name, path in CAPTURED.items() if name.startswith("gcloud")]
    for known in (known for known in KNOWN_ERRORS if known.of_gcloud):
        found = []
        for message in messages:
            command = f"grep -qE {shlex.quote(known.pattern)}"
            done = subprocess.run(["bash", "-c", command], input=message, text=True, check=False)
            assert done.returncode in (0, 1)
            found.append(done.returncode == 0)
        assert found == [bool(re.search(known.pattern, message)) for message in messages]


if __name__ == "__main__":
    for captured in CAPTURED.values():
        head, message, _ = parts(captured)
        captured.write_text(f"{head}\n{message}\n-----\n{printed(message)}")
