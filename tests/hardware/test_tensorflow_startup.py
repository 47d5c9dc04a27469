"""TensorFlow starts without its chatter; what it says when it fails is shown."""

import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import tensorflow_startup

ROOT = Path(__file__).parents[2]


def _python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_an_error_is_one_line_on_stderr_and_nothing_else(tmp_path):
    done = _python("main.py", "evaluate", f"--model_dir={tmp_path}/none")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"error: --model_dir={tmp_path}/none: no trained run here (run.json is missing). Train one first.\n"
    )


@pytest.mark.parametrize(("fails", "shown"), [(False, False), (True, True)])
def test_chatter_is_shown_only_where_the_import_fails(tmp_path, fails, shown):
    """A keras.py in front of the real one chatters as TensorFlow does, and fails where it should."""
    failure = "raise ImportError('no')" if fails else ""
    (tmp_path / "keras.py").write_text(
        f"import os\nfrom unittest import mock\nos.write(2, b'chatter\\n')\n{failure}\nconfig = mock.Mock()\n"
    )
    (tmp_path / "tensorflow.py").write_text(
        "import logging\nget_logger = logging.getLogger\n"
        "class config:\n    list_physical_devices = staticmethod(lambda kind: [])\n"
    )
    code = (
        f"import glob, sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; glob.glob = lambda pattern: []\n"
        "from efficientnet_tpu.hardware.tensorflow_startup import import_tensorflow; import_tensorflow()\n"
        "sys.stderr.write('later\\n')"
    )
    done = _python("-c", code)
    assert ("chatter" in done.stderr) == shown
    assert (done.returncode == 0) == (not fails)
    assert ("later" in done.stderr) == (not fails)
    assert ("ImportError: no" in done.stderr) == fails


@pytest.mark.slow
def test_it_starts_without_a_place_for_temporary_files():
    """And whoever needs one later is told."""
    code = (
        "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nowhere']\n"
        "from efficientnet_tpu.hardware.tensorflow_startup import import_tensorflow; import_tensorflow()\n"
        "import tensorflow; assert tensorflow.add(1, 2) == 3\n"
        "from efficientnet_tpu.storage.temporary_directory import temporary_directory\n"
        "temporary_directory().__enter__()"
    )
    done = _python("-c", code)
    assert "UserError: there is no directory for temporary files: none of ['/nowhere'] can be written." in done.stderr


@pytest.mark.parametrize(
    ("tensorflow", "libtpu", "refused"),
    [
        ("2.20.0", "0.0.14", ""), ("2.20.0", "0.0.31", ""), ("2.20.0", "0.0.32", "new"), ("2.20.0", "0.0.32.1", "new"),
        ("2.20.0", "0.1.0", "new"), ("2.20.0", None, ""), ("2.20.0", "0.0.10", "old"), ("2.19.1", "0.0.10", ""),
        ("2.19.1", "0.0.14", "new"), ("2.31.0", "0.0.99", ""),
    ],
)  # fmt: skip
def test_a_libtpu_that_would_abort_the_process_is_refused(monkeypatch, tensorflow, libtpu, refused):
    versions = {"tensorflow-tpu": tensorflow, "libtpu": libtpu}
    monkeypatch.setattr(tensorflow_startup, "installed_version", versions.get)
    if refused:
        with pytest.raises(UserError, match=rf"^libtpu {libtpu} is too {refused} .* pip install 'libtpu>=0.0.1[04],<"):
            tensorflow_startup.import_tensorflow()
    else:
        tensorflow_startup.require_compatible_libtpu()


def test_a_tpu_that_is_held_or_not_there_is_an_error_of_one_line(tf, monkeypatch):
    error = tf.errors.InternalError(None, None, "Failed to get global TPU topology.")
    monkeypatch.setattr(tf.config, "list_physical_devices", Mock(side_effect=error))
    with pytest.raises(UserError, match=r"^this machine's TPU cannot be had: Failed to get global "):
        tensorflow_startup.import_tensorflow()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "refused"),
    [
        ('{"floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1, "backend": "jax"}', False),
        ("{", False),
        ('{"floatx": "float99"}', True),
        ("[]", True),
    ],
)
def test_no_keras_json_makes_another_network(tmp_path, monkeypatch, content, refused):
    (tmp_path / "keras.json").write_text(content)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    code = (
        "from efficientnet_tpu.hardware import tensorflow_startup; tensorflow_startup.import_tensorflow()\n"
        "from keras import config; print(config.floatx(), config.image_data_format(), config.epsilon())"
    )
    done = _python("-c", code)
    if refused:
        assert f"UserError: {tmp_path}/keras.json: Keras cannot start with these settings. " in done.stderr
    else:
        assert done.stdout == "float32 channels_last 1e-07\n"
