"""The places that a run writes to: room on the disk, rights, and files that the program keeps between runs."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable

from efficientnet_tpu import first_checks
from efficientnet_tpu.config.config import Config
from efficientnet_tpu.doctor.finding import ERROR, OK, WARNING, Finding, refused
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.storage import presence
from efficientnet_tpu.storage.temporary_directory import users_temporary_place
from efficientnet_tpu.storage.write_errors import write_error_reason
from efficientnet_tpu.training.memory import state_bytes

SUBJECT = "places"
_OTHER_FILES = 50e6  # bytes of a run's log, curves and events
_KERNELS = 20e6  # bytes of compiled kernels
REINSTALL_NUMBA = "python -m pip install --force-reinstall numba llvmlite"


def check_places(config: Config) -> list[Finding]:
    """Returns the findings about the disk: where a run, temporary files and compiled kernels are written."""
    found: list[Finding] = []
    model_dir = config.run.model_dir
    if model_dir and presence.is_local(model_dir):
        found += check_room(f"--model_dir={model_dir}", model_dir, checkpoint_bytes(config))
    try:
        temporary = users_temporary_place()
    except UserError as error:
        what, _, cause = str(error).partition(": ")
        found.append(Finding(SUBJECT, WARNING, what, cause, "export TMPDIR=DIRECTORY"))
    else:
        found += check_room("TMPDIR", temporary, 0.0)
    return [*found, *check_kernel_cache(), *_refused_by_first_checks(config)]


def checkpoint_bytes(config: Config) -> float:
    """Returns the bytes of a run's checkpoints: those that are kept, the best, and the one that is being written."""
    network = configured_architecture(config.model, NUM_IMAGENET_CLASSES)
    number = config.train.keep_checkpoints + 2
    return number * state_bytes(network, config.train.optimizer).total + _OTHER_FILES


def check_room(
    named: str,
    folder: str,
    needed: float,
    usage: Callable[[str], tuple[int, int, int]] = shutil.disk_usage,
    severity: str = ERROR,
) -> list[Finding]:
    """Returns the findings about a folder, or the nearest one above it that is there.

    named: the flag or variable that names it. needed: bytes that will be written. usage: total, used and free bytes.
    severity: of a folder that takes nothing.
    """
    place = os.path.abspath(folder)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        return [Finding(SUBJECT, severity, f"{named}: {place} is a file", "a folder is to be there", f"ls -l {place}")]
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        return [_unwritable(named, place, error, severity)]
    _, _, free = usage(place)
    if free < needed:
        what = f"{named}: {free / 1e9:.1f} GB are free, and about {needed / 1e9:.1f} GB will be written"
        cause = "the checkpoints that are kept, the best and the one that is written; a run waits when the disk is full"
        return [Finding(SUBJECT, severity, what, cause, f"df -h {place}; or --keep_checkpoints=1, or another disk")]
    wanted = f", of about {needed / 1e9:.1f} GB needed" if needed else ""
    return [Finding(SUBJECT, OK, f"{named}: {free / 1e9:.1f} GB are free{wanted}")]


def _unwritable(named: str, place: str, error: OSError, severity: str) -> Finding:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    cause = {
        errno.EROFS: "the file system is mounted read-only, as after an error of its disk or in a container",
        errno.EACCES: "another user owns it",
        errno.ENOSPC: "the disk, or its table of files, is full",
        errno.EDQUOT: "your quota of the disk is used up",
    }.get(error.errno or 0, "the system refuses it")
    command = f"df -h {place}; df -i {place}" if full else f"ls -ld {place}; id; findmnt -T {place}"
    return Finding(
        SUBJECT, severity, f"{named}: {place} cannot be written: {write_error_reason(error)}", cause, command
    )


def check_kernel_cache() -> list[Finding]:
    """Returns the findings about numba, and the folder where its compiled kernels are kept. Imports numba."""
    try:
        from efficientnet_tpu.data.kernels import kernel_cache
    except Exception as error:  # noqa: BLE001 - numba refuses a NumPy in several ways, LLVM a processor
        reason = str(error).partition("\n")[0]
        cause = "the input pipeline takes TensorFlow's own operations, in about 3 times the CPU time"
        what = f"numba cannot be imported: {type(error).__name__}: {reason}"
        return [Finding(SUBJECT, WARNING, what, cause, REINSTALL_NUMBA)]
    folder = kernel_cache.folder()
    found = check_room(f"numba's cache {folder}", folder, _KERNELS, severity=WARNING)
    if found[0].severity == OK:
        kept = 0
        with contextlib.suppress(OSError):
            kept = sum(name.endswith(".kernel") for name in os.listdir(folder))
        return [Finding(SUBJECT, OK, f"{kept} compiled kernels are kept in {folder}")]
    command = f"export NUMBA_CACHE_DIR=DIRECTORY; {found[0].command}"
    cause = f"{found[0].cause}: every start compiles the kernels again, for some seconds"
    return [Finding(SUBJECT, WARNING, found[0].found, cause, command)]


def _refused_by_first_checks(config: Config) -> list[Finding]:
    """Returns what a training with these flags would be refused for, as far as files say."""
    checks = {
        "data": bool(config.data.data_dir),
        "cache": bool(config.hardware.cache),
        "first_weights": True,
        "class_weights": True,
    }
    wanted = [getattr(first_checks, name) for name, is_asked in checks.items() if is_asked]
    return [finding for check in wanted for finding in refused(SUBJECT, lambda check=check: check(config, ()))]
