"""The surroundings of the process: variables, the cluster, encodings, the clock; and what is set for TensorFlow."""

import codecs
import os
import time
from collections.abc import Mapping

from efficientnet_tpu.doctor.finding import ERROR, NOTE, OK, WARNING, Finding, refused
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.hardware.tf_config import ONE_HOST, read_tf_config

SUBJECT = "environment"
_SKEW = 300.0  # seconds by which requests to Google's servers may be wrong, and a file system's clock


# Variable -> the values that do harm, and what they do. TensorFlow's and Keras' names.
_HARMFUL = {
    "TF_USE_LEGACY_KERAS": (("1", "true", "True"), "tf.keras is then tf_keras, Keras 2, whose models are others"),
    "NUMBA_DISABLE_JIT": (("1",), "numba then compiles nothing, and the input pipeline takes TensorFlow's operations"),
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": (("python",), "protobuf is then slow, and records are read slowly"),
    "TF_XLA_FLAGS": (
        ("--tf_xla_auto_jit=2",),
        "TensorFlow then compiles what it likes on a GPU, other numbers included",
    ),
}


def check_surroundings(environment: Mapping[str, str], filesystem_encoding: str, stdout_encoding: str) -> list[Finding]:
    """Returns the findings about variables, TF_CONFIG and encodings."""
    found = [*_cluster(environment), *_encodings(filesystem_encoding, stdout_encoding)]
    for name, (values, harm) in _HARMFUL.items():
        if environment.get(name) in values:
            what = f"{name}={environment[name]} is set"
            found.append(Finding(SUBJECT, WARNING, what, harm, f"unset {name}"))
    backend = environment.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        what = f"KERAS_BACKEND={backend} is set"
        found.append(Finding(SUBJECT, NOTE, what, "training needs tensorflow, and the program sets it for itself"))
    return found


def _cluster(environment: Mapping[str, str]) -> list[Finding]:
    hosts = []
    wrong = refused(SUBJECT, lambda: hosts.append(read_tf_config(environment)), "echo $TF_CONFIG; unset TF_CONFIG")
    if wrong:
        return wrong
    if hosts[0] is ONE_HOST:
        return []
    what = f"this is host {hosts[0].index} of {hosts[0].count}: {', '.join(hosts[0].addresses)}"
    return [Finding(SUBJECT, OK, what, "all of them train one network; a host that is missing is waited for")]


def _encodings(filesystem: str, stdout: str) -> list[Finding]:
    found = []
    if not _is_utf_8(filesystem):
        cause = "the locale is C or POSIX: names of files and classes that are not ASCII cannot be opened"
        what = f"names of files are read as {filesystem}"
        found.append(Finding(SUBJECT, ERROR, what, cause, "export LC_ALL=C.UTF-8 PYTHONUTF8=1"))
    if not _is_utf_8(stdout):
        cause = "letters that it lacks are printed as escapes, \\xe9 for an e with an accent"
        found.append(Finding(SUBJECT, WARNING, f"stdout is {stdout}", cause, "export PYTHONIOENCODING=utf-8"))
    return found


def _is_utf_8(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    except LookupError:
        return False


def check_clock(now: float, newest_file: float) -> list[Finding]:
    """Returns the findings about the clock. newest_file: the time of the program's newest file, in seconds."""
    if now >= newest_file - _SKEW:
        return []
    shown = time.strftime("%Y-%m-%d %H:%M", time.gmtime(now))
    return [
        Finding(
            SUBJECT,
            WARNING,
            f"the clock says {shown} UTC, which is before the program's files were written",
            "with a wrong clock gs:// refuses requests (certificates and tokens are of another time)",
            "timedatectl status; sudo timedatectl set-ntp true",
        )
    ]


def check_settings(changed: Mapping[str, str], environment: Mapping[str, str]) -> list[Finding]:
    """Returns one finding on the variables that the program sets before TensorFlow starts.

    changed: as `tensorflow_startup.settings` gives them.
    """
    lines = [f"{name}={value}" + (" (yours)" if name in environment else "") for name, value in changed.items()]
    return [Finding(SUBJECT, OK, f"TensorFlow is started with {'; '.join(lines)}")]


def newest_file_of_the_program() -> float:
    """Returns the time of the newest of the program's own files, in seconds."""
    folder = os.path.dirname(os.path.abspath(tensorflow_startup.__file__))
    return max((entry.stat().st_mtime for entry in os.scandir(folder) if entry.name.endswith(".py")), default=0.0)
