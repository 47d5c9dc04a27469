"""The start of TensorFlow: without its messages, and not where it would abort the process."""

import contextlib
import glob
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import local_tpu
from efficientnet_tpu.hardware.stderr import redirected_stderr
from efficientnet_tpu.installation import installed_version, missing_package_text

# Of each tensorflow-tpu, the first libtpu and the first that it cannot load any more; pyproject.toml has them too.
LIBTPU_RANGES = {"2.19": ("0.0.10", "0.0.11"), "2.20": ("0.0.14", "0.0.32")}
# Of the lines of TensorFlow's log, which `library_messages` keeps from the screen.
_PREFIX = re.compile(rb"^[IWE]\d{4} [^\]\n]*\] |^\d{4}-\d\d-\d\d \S+ [IWE] [^\]\n]*\] ", re.MULTILINE)


def import_tensorflow() -> None:
    """Imports TensorFlow and Keras, and lists the GPUs."""
    if "tensorflow" not in sys.modules and sys.stderr.isatty():  # a person waits, for seconds
        print("starting TensorFlow ...", file=sys.stderr, flush=True)
    has_tpu_build = installed_version("tensorflow-tpu") is not None
    if has_tpu_build:
        require_compatible_libtpu()
    os.environ.update(settings())
    # libtpu aborts the process when it fails: its messages must not be held back.
    loads_libtpu = has_tpu_build and os.environ.get("TPU_LOAD_LIBRARY") != "0"
    with _place_for_temporary_files(), contextlib.nullcontext() if loads_libtpu else _quiet_stderr():
        try:
            import tensorflow as tf  # first: Keras without it fails in many lines

            # Otherwise a checkpoint that does not fit prints a line for each of its tensors beside our error.
            tf.get_logger().setLevel("ERROR")
            import keras
        except ModuleNotFoundError as error:
            if error.name != "tensorflow":
                raise
            raise UserError(missing_package_text("tensorflow")) from error
        except (AssertionError, AttributeError, OSError, TypeError, ValueError) as error:
            if not _is_of_keras_json(error):
                raise
            path = os.path.join(os.environ.get("KERAS_HOME") or os.path.join("~", ".keras"), "keras.json")
            raise UserError(f"{path}: Keras cannot start with these settings. Mend the file, or remove it.") from error
        # Those of a keras.json would be another network.
        keras.config.set_floatx("float32")
        keras.config.set_epsilon(1e-7)
        keras.config.set_image_data_format("channels_last")
        try:
            tf.config.list_physical_devices("GPU")
        except tf.errors.InternalError as error:
            raise UserError(
                f"this machine's TPU cannot be had: {error.message} Another program may hold it, or "
                "TPU_ACCELERATOR_TYPE name one that is not there. TPU_LOAD_LIBRARY=0 in the environment does without."
            ) from error


def settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the variables that TensorFlow and Keras read when they are imported, as they shall be."""
    changed = {
        "KERAS_BACKEND": "tensorflow",  # training needs it, whatever keras.json says
        "TF_CPP_MIN_LOG_LEVEL": environment.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }
    if installed_version("tensorflow-tpu") is not None:
        changed |= local_tpu.settings(local_tpu.find("/", environment), environment)
    return changed


def _is_of_keras_json(error: Exception) -> bool:
    """Returns whether an error comes from a module that reads Keras' settings: one of Keras, one of TensorFlow."""
    modules = (("keras", "src", "backend", "config.py"), ("tensorflow", "python", "keras", "backend.py"))
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].filename.endswith(tuple(os.path.join(*module) for module in modules))


def require_compatible_libtpu() -> None:
    """Raises UserError for a libtpu that would abort the process while TensorFlow is imported."""
    tensorflow, libtpu = installed_version("tensorflow-tpu") or "", installed_version("libtpu") or ""
    first, limit = LIBTPU_RANGES.get(".".join(tensorflow.split(".")[:2]), ("", ""))
    if libtpu and limit and not _parts(first) <= _parts(libtpu) < _parts(limit):
        age = "old" if _parts(libtpu) < _parts(first) else "new"
        raise UserError(
            f"libtpu {libtpu} is too {age} for tensorflow-tpu {tensorflow}, which would abort. "
            f"Install another: pip install 'libtpu>={first},<{limit}'"
        )


def _parts(version: str) -> tuple[int, ...]:
    """Returns the numbers of a version, to compare it by."""
    return tuple(int(part) for part in re.findall("[0-9]+", version)[:3])


@contextlib.contextmanager
def _place_for_temporary_files() -> Iterator[None]:
    """Names a directory for temporary files where none can be written: a module of absl that TensorFlow imports asks
    for its name, and puts nothing there.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = os.curdir
    try:
        yield
    finally:
        if tempfile.tempdir == os.curdir:
            tempfile.tempdir = None  # whoever writes is told that there is none


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keeps what is written to stderr meanwhile, C++ included.

    TensorFlow 2.21 reports oneDNN, missing CUDA drivers and its own logging in some ten lines that no setting silences.
    They are shown all the same where something fails, or where there is an NVIDIA device that they may be about.
    """
    ends = os.pipe()  # a file would need a place for temporary files
    for end in ends:
        os.set_blocking(end, False)  # nobody reads meanwhile: what is more than 64 KB is lost
    with open(ends[0], "rb", buffering=0) as kept, open(ends[1], "wb", buffering=0) as pipe:
        show = True
        try:
            with redirected_stderr(pipe):
                yield
            show = bool(glob.glob("/dev/nvidia[0-9]*"))
        finally:
            if show:
                os.write(2, _PREFIX.sub(b"TensorFlow: ", kept.read() or b""))
