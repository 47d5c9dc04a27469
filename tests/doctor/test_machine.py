"""Processors, memory, disks, variables and clocks that keep a training from running."""

import errno
import os

import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data.kernels import kernel_cache
from efficientnet_tpu.doctor import computer, places, surroundings
from efficientnet_tpu.doctor.finding import ERROR, NOTE, OK, WARNING


@pytest.mark.parametrize(
    ("content", "severity", "found"),
    [
        ("flags : fpu sse2 avx avx2 fma avx512f avx512_bf16\n", OK, "with avx2, fma, avx512f, avx512_bf16"),
        ("flags : fpu sse2 avx\n", WARNING, "with no bfloat16"),
        ("flags : fpu sse2\n", ERROR, "the CPU has no AVX"),
        ("Features : fp asimd bf16\n", OK, "with asimd, bf16"),
    ],
)
def test_processors(tmp_path, content, severity, found):
    (tmp_path / "cpuinfo").write_text(content)
    [finding] = computer.check_processor(str(tmp_path / "cpuinfo"))
    assert finding.severity == severity
    assert found in finding.found


def test_a_processor_that_nothing_describes(tmp_path):
    assert computer.check_processor(str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("kilobytes", "options", "severity"),
    [
        (64_000_000, {}, OK),
        (8_000_000, {}, NOTE),
        (8_000_000, {"train_batch_size": 256}, WARNING),
        (1_000_000, {}, ERROR),
    ],
)
def test_memory(tmp_path, kilobytes, options, severity):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {kilobytes} kB\n")
    [finding] = computer.check_memory(with_options(Config(), options), root=str(tmp_path))
    assert finding.severity == severity
    assert finding.found.startswith(f"{kilobytes * 1024 / 1e9:.1f} GB are available on this machine")


def test_a_control_group_is_named(tmp_path):
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/self/mountinfo").write_text("1 2 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    (group / "memory.max").write_text("1000000000\n")
    (group / "memory.current").write_text("100000000\n")
    [finding] = computer.check_memory(Config(), root=str(tmp_path))
    assert (finding.severity, "control group" in finding.found) == (ERROR, True)


def test_a_disk_with_too_little_room(tmp_path):
    config = with_options(Config(), {"model": "efficientnet-b7", "model_dir": str(tmp_path / "runs" / "b7")})
    needed = places.checkpoint_bytes(config)
    # Weights and average of 66.7 M numbers, slots of 66.3 M twice, in 7 checkpoints.
    assert needed == pytest.approx(7 * 4 * (2 * 66.66e6 + 2 * 66.35e6) + 50e6, rel=0.001)
    [finding] = places.check_room("--model_dir", config.run.model_dir, needed, lambda place: (10**12, 0, 10**9))
    assert finding.severity == ERROR
    assert finding.found == "--model_dir: 1.0 GB are free, and about 7.5 GB will be written"
    assert f"df -h {tmp_path}" in finding.command
    [finding] = places.check_room("--model_dir", config.run.model_dir, needed, lambda place: (10**12, 0, 10**10))
    assert finding.severity == OK
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("number", "words", "command"),
    [
        (errno.ENOSPC, "No space left on device", "df -h"),
        (errno.EROFS, "Read-only file system", "findmnt"),
        (errno.EACCES, "Permission denied", "ls -ld"),
        (errno.EDQUOT, "Disk quota exceeded", "df -h"),
    ],
)
def test_a_folder_that_takes_nothing(tmp_path, monkeypatch, number, words, command):
    def refuse(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(places.tempfile, "TemporaryFile", refuse)
    [finding] = places.check_room("TMPDIR", str(tmp_path), 0.0)
    assert finding.severity == ERROR
    assert finding.found == f"TMPDIR: {tmp_path} cannot be written: {words}"
    assert finding.command.startswith(command) or command in finding.command


def test_a_cache_of_kernels_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kernel_cache, "folder", lambda: str(tmp_path / "file"))
    [finding] = places.check_kernel_cache()
    assert finding.severity == WARNING
    assert "compiles the kernels again" in finding.cause
    assert finding.command.startswith("export NUMBA_CACHE_DIR=")


def test_what_a_training_would_be_refused_for(tmp_path):
    config = with_options(Config(), {"data_dir": str(tmp_path / "photos"), "init_from": str(tmp_path / "weights")})
    errors = [one.found for one in places.check_places(config) if one.severity == ERROR]
    assert [text.partition("=")[0] for text in errors] == ["--data_dir", "--init_from"]


def surroundings_of(filesystem="utf-8", stdout="utf-8", **environment):
    return surroundings.check_surroundings(environment, filesystem, stdout)


@pytest.mark.parametrize(
    ("facts", "severity", "found"),
    [
        ({"TF_CONFIG": "{"}, ERROR, "TF_CONFIG: not JSON"),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:2"]}}'}, ERROR, "TF_CONFIG: it does not say which host"),
        ({"filesystem": "ascii"}, ERROR, "names of files are read as ascii"),
        ({"stdout": "latin-1"}, WARNING, "stdout is latin-1"),
        ({"stdout": "nonsense"}, WARNING, "stdout is nonsense"),
        ({"TF_USE_LEGACY_KERAS": "1"}, WARNING, "TF_USE_LEGACY_KERAS=1 is set"),
        ({"NUMBA_DISABLE_JIT": "1"}, WARNING, "NUMBA_DISABLE_JIT=1 is set"),
        ({"KERAS_BACKEND": "jax"}, NOTE, "KERAS_BACKEND=jax is set"),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}'},
            OK,
            "this is host 1 of 2: a:1, b:2",
        ),
    ],
)
def test_surroundings(facts, severity, found):
    [finding] = surroundings_of(**facts)
    assert finding.severity == severity
    assert finding.found.startswith(found)
    assert severity in (OK, NOTE) or finding.command


def test_nothing_is_wrong_with_an_empty_environment():
    assert surroundings_of(stdout="UTF-8") == []


def test_a_clock_before_the_program_was_written():
    assert surroundings.check_clock(now=1e9, newest_file=1e9 + 100) == []
    [finding] = surroundings.check_clock(now=0.0, newest_file=1e9)
    assert (finding.severity, "1970-01-01" in finding.found) == (WARNING, True)


def test_the_settings_for_tensorflow_say_which_are_the_users():
    [finding] = surroundings.check_settings({"A": "1", "B": "2"}, {"B": "2"})
    assert finding.found == "TensorFlow is started with A=1; B=2 (yours)"
