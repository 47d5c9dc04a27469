"""Starting TensorFlow without its chatter."""

import glob
import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Imports TensorFlow and Keras and looks for GPUs, keeping what they write to stderr meanwhile.

    TensorFlow 2.21 reports oneDNN, missing CUDA drivers and its own logging in some ten lines that no setting silences.
    They are shown all the same where the import fails, or where there is an NVIDIA device that they may be about.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # the loop is TensorFlow's, whatever Keras is set to elsewhere
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        show = True
        try:
            import keras  # noqa: F401
            import tensorflow as tf

            # A checkpoint that does not fit would be followed by a line for each of its tensors, ours among them.
            tf.get_logger().setLevel("ERROR")
            tf.config.list_physical_devices("GPU")
            show = bool(glob.glob("/dev/nvidia[0-9]*"))
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            if show:
                kept.seek(0)
                os.write(2, kept.read())
