"""`benchmark train|inference`: which runtimes, what is printed and written, and what becomes of a process that ends."""

import json
from dataclasses import asdict

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config.commands import EXPORT_FORMATS, RUNTIME_NAMES, read_batch_sizes
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.speed import benchmark, runtimes
from efficientnet_tpu.speed.runtimes import RUNTIMES, runtime_of
from efficientnet_tpu.speed.timings import Timing


def test_every_runtime_has_a_row():
    assert tuple(RUNTIMES) == RUNTIME_NAMES
    assert {runtime.form for runtime in RUNTIMES.values()} <= set(EXPORT_FORMATS)
    endings = [ending for runtime in RUNTIMES.values() for ending in runtime.endings]
    assert len(set(endings)) == len(endings)


@pytest.mark.parametrize(
    ("export", "runtime"),
    [("a/int8.tflite", "litert"), ("b.onnx", "onnxruntime"), ("c.keras", "tensorflow"), ("photo.jpg", None)],
)
def test_the_runtime_of_an_export(tmp_path, export, runtime):
    assert runtime_of(export) == runtime
    (tmp_path / "1.2").mkdir()
    assert runtime_of(f"{tmp_path}/1.2/") == "tensorflow"


def test_runtimes_that_are_installed(monkeypatch):
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda module: module == "onnxruntime" or None)
    assert benchmark.chosen_runtimes("installed", "") == ["onnxruntime"]
    assert benchmark.chosen_runtimes("onnxruntime,onnxruntime", "") == ["onnxruntime"]
    with pytest.raises(UserError, match=r"--runtimes=litert: is not installed: .*ai-edge-litert"):
        benchmark.chosen_runtimes("litert", "")


@pytest.mark.parametrize(("text", "sizes"), [("", []), ("1", [1]), ("1,8,32", [1, 8, 32])])
def test_batch_sizes(text, sizes):
    assert read_batch_sizes(text) == sizes


@pytest.mark.parametrize("text", ["0", "1,", "a", "-1", "1.5", "\u0661", "9999999999"])
def test_what_is_no_batch_size(text):
    with pytest.raises(ValueError, match="whole numbers"):
        read_batch_sizes(text)


def test_rows_come_as_they_are_measured_and_a_killed_process_is_one(monkeypatch, tmp_path, capsys):
    tasks = []

    def answers(task):
        tasks.append(task)
        if task["batch_size"] == 64:
            raise benchmark._WorkerEndedError("was killed")
        yield asdict(Timing("CPU", task["batch_size"], 1.0, 2.0, 3.0, 4.0, calls=10))

    monkeypatch.setattr(benchmark, "_answers", answers)
    options = {"model": "efficientnet-nano", "batch_sizes": "8,64", "report": f"{tmp_path}/a.json", "seconds": 0.5}
    benchmark.benchmark_train(with_options(Config(), options))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("training steps of efficientnet-nano at 32 x 32, random weights, ")
    assert [line.split()[:2] for line in lines[1:4]] == [["device", "batch"], ["CPU", "8"], ["-", "64"]]
    assert lines[3].endswith("was killed")
    assert [task["seconds"] for task in tasks] == [0.5, 0.5]
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["model"], found["resolution"], found["weights"]) == ("efficientnet-nano", 32, "random")
    assert [row["failure"] for row in found["timings"]] == ["", "was killed"]


def test_a_process_that_fails_says_why():
    with pytest.raises(UserError, match=r"the nothing ended without an answer: KeyError: 'nothing'"):
        benchmark._answer({"kind": "nothing"})


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["train", "inference"])
def test_through_the_command_line(tmp_path, capsys, subject):
    path = tmp_path / "found.json"
    cli.main([
        "main.py", "benchmark", subject, "--model=efficientnet-nano", "--batch_sizes=1,4", "--seconds=0.1",
        f"--report={path}",
    ])  # fmt: skip
    found = json.loads(path.read_text())
    rows = [Timing(**row) for row in found["timings"]]
    installed = [name for name, runtime in RUNTIMES.items() if runtime.is_installed]
    names = ["CPU"] if subject == "train" else installed
    assert [(row.name, row.batch_size) for row in rows] == [(name, size) for name in names for size in (1, 4)]
    for row in rows:
        assert row.failure == ""
        assert 0 < row.p50_ms <= row.p90_ms <= row.p99_ms
        assert row.calls >= 10
        assert row.peak_bytes > 30e6
    if "onnxruntime" in names:  # a process without TensorFlow
        assert max(row.peak_bytes for row in rows if row.name == "onnxruntime") < 300e6
    assert len(capsys.readouterr().out.splitlines()) >= 3 + len(rows)


@pytest.mark.slow
def test_an_export_in_its_own_runtime(tmp_path, capsys, tf):
    from efficientnet_tpu.config.config import options_of
    from efficientnet_tpu.speed import exported_network

    options = options_of(with_options(Config(), {"model": "efficientnet-nano"}))
    found = exported_network.write(options, ["tflite"], str(tmp_path))
    export = found["paths"]["tflite"]
    command = ["main.py", "benchmark", "inference", f"--saved_model={export}", "--batch_sizes=2", "--seconds=0.1"]
    cli.main(command)
    out = capsys.readouterr().out
    assert f"inference of {export} at 32 x 32, export weights" in out
    assert [line.split()[0] for line in out.splitlines()[2:3]] == ["litert"]
    with open(export, "r+b") as file:
        file.seek(1000)
        file.write(b"\0\1\2\3")
    with pytest.raises(UserError, match="is damaged, or was changed"):
        cli.main(command)
