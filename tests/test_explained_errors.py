"""Errors that end a command: those that are known are printed as cause and command, others are Python's."""

import dataclasses

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.commands.table import COMMANDS
from efficientnet_tpu.errors import UserError


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (
            ImportError("numpy.core.multiarray failed to import"),
            1,
            ["error: NumPy does not fit: ", "\n\nImportError: "],
        ),
        (MemoryError("Unable to allocate 7 GiB for an array"), 1, ["error: out of memory: ", "\n  try: "]),
        (
            ModuleNotFoundError("No module named 'keras'", name="keras"),
            2,
            ["error: ", " does not have the package keras."],
        ),
        (UserError("--data_dir=gs://b: cannot be reached"), 2, ["error: --data_dir=gs://b: cannot be reached\n"]),
    ],
)
def test_an_error_that_is_known_is_printed_with_its_cause_and_a_command(monkeypatch, capsys, error, status, words):
    def fail(config, arguments):
        raise error

    monkeypatch.setitem(COMMANDS, "models", dataclasses.replace(COMMANDS["models"], run=fail))
    with pytest.raises(SystemExit) as ended:
        cli.run(["main.py", "models"])
    text = capsys.readouterr().err
    assert ended.value.code == status
    assert all(word in text for word in words)
    assert "Traceback" not in text


def test_a_refusal_that_came_from_a_known_error_has_its_cause(monkeypatch, capsys):
    def fail(config, arguments):
        try:
            raise RuntimeError("HTTP response code 403 with body 'no'")
        except RuntimeError as error:
            raise UserError("--data_dir=gs://b: cannot be reached") from error

    monkeypatch.setitem(COMMANDS, "models", dataclasses.replace(COMMANDS["models"], run=fail))
    with pytest.raises(SystemExit) as ended:
        cli.run(["main.py", "models"])
    assert ended.value.code == 2
    first, second, third, _ = capsys.readouterr().err.split("\n")
    assert first == "error: --data_dir=gs://b: cannot be reached"
    assert second.startswith("no right to the bucket: ")
    assert third.startswith("  try: gcloud auth application-default login")


def test_an_error_that_nobody_knows_is_left_to_python(monkeypatch):
    def fail(config, arguments):
        raise KeyError("why")

    monkeypatch.setitem(COMMANDS, "models", dataclasses.replace(COMMANDS["models"], run=fail))
    with pytest.raises(KeyError):
        cli.run(["main.py", "models"])


@pytest.mark.parametrize(
    ("command", "flag"), [("evaluate", "--eval_batch_size=32"), ("predict", "--eval_batch_size=32")]
)
def test_an_evaluation_out_of_memory_is_told_a_smaller_batch(monkeypatch, capsys, command, flag):
    def fail(config, arguments):
        raise MemoryError("OOM when allocating tensor with shape[64,192,300,300]")

    changed = dataclasses.replace(
        COMMANDS[command], run=fail, stored_config="unused", checks=(), needs_tensorflow=False, arguments=""
    )
    monkeypatch.setitem(COMMANDS, command, changed)
    with pytest.raises(SystemExit):
        cli.run(["main.py", command, "--model_dir=none", "--eval_batch_size=64"])
    assert f"\n  try: {flag}\n" in capsys.readouterr().err


def out_of_memory(*_):
    """Asks TensorFlow for 64 TiB."""
    import tensorflow as tf

    return tf.zeros([1 << 22, 1 << 22])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "flag"), [("train", "--gradient_accumulation_steps="), ("evaluate", "--eval_batch_size=4,")]
)
def test_a_run_out_of_memory_names_the_flags_of_what_ran_out(
    shapes, tiny_recipe, tmp_path, monkeypatch, capsys, part, flag
):
    from efficientnet_tpu import evaluate, train

    module, name = {"train": (train, "make_train_loop"), "evaluate": (evaluate, "make_eval_loop")}[part]
    monkeypatch.setattr(module, name, lambda *_: out_of_memory)
    run = ["main.py", *tiny_recipe, f"--data_dir={shapes}", f"--model_dir={tmp_path}/run", "--train_epochs=1"]
    with pytest.raises(SystemExit) as ended:
        cli.run(run)
    text = capsys.readouterr().err
    assert ended.value.code == 1
    assert "error: out of memory: " in text
    assert f"\n  try: {flag}" in text
    assert "OOM when allocating tensor with shape[4194304,4194304]" in text.partition("\n\n")[2]
