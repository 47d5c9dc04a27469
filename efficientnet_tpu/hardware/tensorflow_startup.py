"""The start of TensorFlow: without its messages, and not where it would abort the process."""

import contextlib
import glob
import importlib
import os
import tempfile
import traceback
from collections.abc import Iterator
from importlib import metadata

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import tpu_discovery
from efficientnet_tpu.hardware.stderr import redirected_stderr
from efficientnet_tpu.installation import missing_package_text

# The first libtpu that TensorFlow 2.20 cannot load; pyproject.toml has it too.
LIBTPU_LIMIT = (0, 0, 32)


def import_tensorflow() -> None:
    """Imports TensorFlow and Keras, and lists the GPUs."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # training needs it, whatever keras.json says
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    has_tpu_build = installed_version("tensorflow-tpu") is not None
    if has_tpu_build:
        require_compatible_libtpu()
        choose_tpu_runtime()
    # libtpu aborts the process when it fails: its messages must not be held back.
    with _place_for_temporary_files(), contextlib.nullcontext() if has_tpu_build else _quiet_stderr():
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
        tf.config.list_physical_devices("GPU")


def _is_of_keras_json(error: Exception) -> bool:
    """Returns whether an error comes from a module that reads Keras' settings: one of Keras, one of TensorFlow."""
    modules = (("keras", "src", "backend", "config.py"), ("tensorflow", "python", "keras", "backend.py"))
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].filename.endswith(tuple(os.path.join(*module) for module in modules))


def require_compatible_libtpu() -> None:
    """Raises UserError for a libtpu that would abort the process while TensorFlow is imported."""
    libtpu = installed_version("libtpu")
    if libtpu is not None and tuple(int(part) for part in libtpu.split(".")[:3]) >= LIBTPU_LIMIT:
        limit = ".".join(map(str, LIBTPU_LIMIT))
        raise UserError(
            f"libtpu {libtpu} is too new for tensorflow-tpu {installed_version('tensorflow-tpu')}, which would abort. "
            f"Install an older one: pip install 'libtpu>=0.0.14,<{limit}'"
        )


def choose_tpu_runtime() -> None:
    """Selects libtpu's PJRT interface for TPUs from v5e on; v2 to v4 use StreamExecutor, the default.

    TensorFlow reads these variables when it is imported. Values that are set already are kept.
    """
    if tpu_discovery.local_tpu().startswith(("TPU v5", "TPU v6")) and installed_version("libtpu") is not None:
        os.environ.setdefault("PJRT_DEVICE", "TPU")
        os.environ.setdefault("NEXT_PLUGGABLE_DEVICE_USE_C_API", "true")
        library = importlib.import_module("libtpu").get_library_path()
        os.environ.setdefault("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", library)


def installed_version(distribution: str) -> str | None:
    """Returns the version of an installed distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


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
                os.write(2, kept.read() or b"")
