"""`main.py doctor` as a whole: what it prints, and its exit status."""

import csv
import io
import json

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.doctor import doctor
from efficientnet_tpu.doctor.finding import ERROR, NOTE, OK, WARNING, Finding

FINDINGS = [
    Finding("packages", OK, "Python 3.12"),
    Finding("devices", NOTE, "no GPU", "none is there"),
    Finding("places", WARNING, "a cache, =1+1", "it is full", "df -h"),
    Finding("places", ERROR, "no room", "the disk is full", "df -i"),
]


def run(monkeypatch, findings, *flags):
    """Runs the command with these findings; returns the exit status."""
    monkeypatch.setattr(doctor, "examine", lambda config: findings)
    try:
        cli.main(["main.py", "doctor", *flags])
    except SystemExit as ended:
        return ended.code
    return 0


@pytest.mark.parametrize(("number", "status"), [(1, 0), (2, 0), (3, 0), (4, 1)])
def test_only_errors_are_a_failure(monkeypatch, capsys, number, status):
    assert run(monkeypatch, FINDINGS[:number]) == status


def test_text(monkeypatch, capsys):
    run(monkeypatch, FINDINGS)
    assert capsys.readouterr().out == (
        "ok       packages: Python 3.12\n"
        "note     devices: no GPU\n"
        "           none is there\n"
        "warning  places: a cache, =1+1\n"
        "           it is full\n"
        "           try: df -h\n"
        "error    places: no room\n"
        "           the disk is full\n"
        "           try: df -i\n"
        "\n"
        "1 error, 1 warning\n"
    )


def test_json_and_csv(monkeypatch, capsys):
    assert run(monkeypatch, FINDINGS[:3], "--format=json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["severity"] == WARNING
    assert content["findings"] == [vars(finding) for finding in FINDINGS[:3]]
    run(monkeypatch, FINDINGS, "--format=jsonl")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [vars(finding) for finding in FINDINGS]
    run(monkeypatch, FINDINGS, "--format=csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["severity"] for row in rows] == [finding.severity for finding in FINDINGS]


def test_this_machine(capsys, tmp_path):
    """And a TF_CONFIG that is wrong does not keep the doctor from looking."""
    cli.main(["main.py", "doctor", f"--model_dir={tmp_path}/run", "--model=efficientnet-nano"])
    lines = capsys.readouterr().out.splitlines()
    for subject in ("packages", "devices", "machine", "places", "environment"):
        assert any(line[9:].startswith(f"{subject}: ") for line in lines), subject
    assert any("TensorFlow is started with KERAS_BACKEND=tensorflow" in line for line in lines)
    assert not (tmp_path / "run").exists()


def test_a_cluster_that_is_wrong_is_a_finding(capsys, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(SystemExit) as ended:
        cli.main(["main.py", "doctor", "--format=json"])
    assert ended.value.code == doctor.HAS_ERRORS
    errors = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["severity"] == ERROR]
    assert [one["found"].partition(":")[0] for one in errors] == ["TF_CONFIG"]


def test_a_check_that_fails_itself_is_a_finding(monkeypatch):
    def fail(*_):
        raise ImportError("numpy.core.multiarray failed to import")

    monkeypatch.setattr(doctor.places, "check_places", fail)
    monkeypatch.setattr(doctor.packages, "check_packages", lambda installed: [])
    [finding] = [one for one in doctor.examine(doctor.Config()) if one.severity == ERROR]
    assert finding.subject == "places"
    assert finding.found == "ImportError: numpy.core.multiarray failed to import"
    assert "major version of NumPy" in finding.cause
    assert finding.command


def test_deep(tf, tmp_path, monkeypatch):
    """On a file system in memory, in place of gs://."""
    from efficientnet_tpu.config.config import Config, with_options
    from efficientnet_tpu.doctor import deep

    places = {"model_dir": "ram://doctor/run", "data_dir": "ram://doctor/none"}
    findings = deep.check_tensorflow(with_options(Config(), places))
    assert [one.severity for one in findings] == [OK, OK, OK, ERROR]
    assert "a step was made on 1 x CPU" in findings[0].found
    assert findings[2].found == "--model_dir=ram://doctor/run: a file was written and deleted"
    assert tf.io.gfile.listdir("ram://doctor/run") == []
    assert findings[3].found == "--data_dir=ram://doctor/none: is empty"
