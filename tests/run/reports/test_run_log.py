"""log.jsonl, whole or damaged."""

import json
import random

import pytest

TRAIN = {"kind": "train", "step": 10, "epoch": 0.5, "time": 1.5, "loss": 2.0, "top_1_accuracy": 0.5}
EVALUATION = {"kind": "validation", "step": 10, "epoch": 0.5, "time": 1.5, "loss": 2.0, "top_1_accuracy": 0.5}
EVALUATION["top_5_accuracy"] = 0.9
OUTPUT = {"kind": "output", "step": 10, "epoch": 0.5, "time": 1.5, "lost": "stdout: Broken pipe"}


@pytest.fixture
def run_log(tf):
    from efficientnet_tpu.run.reports import run_log

    return run_log


def _write(path, *entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_entries_of_every_kind_are_read(run_log, tmp_path):
    entries = [TRAIN, EVALUATION, EVALUATION | {"kind": "minival"}, OUTPUT, TRAIN | {"loss": float("inf")}]
    _write(tmp_path / "log.jsonl", *entries)
    log = run_log.read_log(str(tmp_path / "log.jsonl"))
    assert (log.entries, log.damaged) == (entries, [])
    assert run_log.read_log(str(tmp_path / "none.jsonl")).entries == []


@pytest.mark.parametrize(
    "change",
    [{"kind": "trahn"}, {"kind": ["train"]}, {"step": 1.5}, {"step": "1"}, {"step": True}, {"loss": None},
     {"loss": [1]}, {"epoch": "0.5"}, {"time": 10**400}],
)  # fmt: skip
def test_another_value_is_no_entry(run_log, tmp_path, change):
    _write(tmp_path / "log.jsonl", TRAIN, TRAIN | change)
    assert run_log.read_log(str(tmp_path / "log.jsonl")).damaged == [2]


@pytest.mark.parametrize("name", ["epoch", "step", "loss", "top_1_accuracy", "top_5_accuracy"])
def test_an_entry_has_its_numbers(run_log, tmp_path, name):
    _write(tmp_path / "log.jsonl", {key: value for key, value in EVALUATION.items() if key != name})
    assert run_log.read_log(str(tmp_path / "log.jsonl")).damaged == [1]


def test_a_run_goes_on_from_what_is_whole(run_log, tmp_path):
    path = tmp_path / "log.jsonl"
    later = [entry | {"step": 30} for entry in (TRAIN, EVALUATION, OUTPUT)]
    _write(path, TRAIN, EVALUATION, *later)
    path.write_bytes(b"\0" * 100 + b"\n" + path.read_bytes() + b'{"kind": "tr\xff')
    log = run_log.LogFile(str(path))
    assert log.drop_after(20, 10) == f"{path}: 2 lines are damaged, and left out: 1, 7"
    log.append(TRAIN | {"step": 21})
    assert run_log.read_log(str(path)).entries == [TRAIN, EVALUATION, later[2], TRAIN | {"step": 21}]


def test_any_damage_is_read(run_log, tmp_path):
    path = tmp_path / "log.jsonl"
    _write(path, *[TRAIN, EVALUATION, OUTPUT] * 5)
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        log = run_log.LogFile(str(path))
        log.drop_after(10**9, 10**9)
        assert run_log.read_log(str(path)).damaged == []
