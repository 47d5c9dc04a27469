"""The checks that start TensorFlow: its devices, a step on each, and gs:// by a file that is written and deleted."""

import contextlib
import io
from collections.abc import Iterator

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.doctor.finding import ERROR, OK, WARNING, Finding, failed, refused
from efficientnet_tpu.doctor.places import REINSTALL_NUMBA
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.storage import presence

SUBJECT = "TensorFlow"
_SIDE = 64  # of the matrices in the step


def check_tensorflow(config: Config) -> list[Finding]:
    """Returns the findings of starting TensorFlow. Nothing else is looked at where it does not start."""
    try:
        tensorflow_startup.import_tensorflow()
    except Exception as error:  # noqa: BLE001 - what is wrong with an environment may raise anything
        return [failed(SUBJECT, error)]
    return [*_step(config), *_operation(), *_remote_places(config)]


def _step(config: Config) -> list[Finding]:
    """Makes a step on the devices that a training would take, and returns what they are."""
    import tensorflow as tf

    from efficientnet_tpu.hardware import distribution

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            strategy = distribution.connect(config.hardware)
        with strategy.scope():
            weights = tf.Variable(tf.ones([_SIDE, _SIDE]))

        @tf.function
        def gradient_sum() -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.matmul(weights, weights))
            return tf.reduce_sum(tape.gradient(loss, weights))

        results = [float(one) for one in strategy.experimental_local_results(strategy.run(gradient_sum))]
    except Exception as error:  # noqa: BLE001 - drivers fail in their own ways
        return [failed(SUBJECT, error)]
    if set(results) != {2.0 * _SIDE**3}:
        cause = "a device computes wrongly: its memory or its driver is damaged"
        return [Finding(SUBJECT, ERROR, f"a first step gives {results}, not {2 * _SIDE**3}", cause, "nvidia-smi -q")]
    return [Finding(SUBJECT, OK, f"{tf.__version__}: a step was made on {distribution.describe(strategy)}")]


def _operation() -> list[Finding]:
    """Registers the input pipeline's own operation."""
    from efficientnet_tpu.data.kernels.prepare_image import load_op

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        is_registered = load_op() is not None
    if is_registered:
        return [Finding(SUBJECT, OK, "the input pipeline's own operation is registered")]
    what = "the input pipeline's own operation cannot be used"
    return [Finding(SUBJECT, WARNING, what, said.getvalue().strip(), REINSTALL_NUMBA)]


def _remote_places(config: Config) -> Iterator[Finding]:
    """Yields whether --data_dir on gs:// can be read, and whether a file can be written into --model_dir there."""
    from efficientnet_tpu.storage import writable

    model_dir, data_dir = config.run.model_dir, config.data.data_dir
    if model_dir and not presence.is_local(model_dir):
        refusals = refused(SUBJECT, lambda: writable.check_folder(model_dir, "model_dir"))
        done = Finding(SUBJECT, OK, f"--model_dir={model_dir}: a file was written and deleted")
        yield from refusals or [done]
    if data_dir and not presence.is_local(data_dir):
        names: list[str] = []
        refusals = refused(SUBJECT, lambda: names.extend(presence.names_in(data_dir, f"--data_dir={data_dir}")))
        found = Finding(SUBJECT, OK, f"--data_dir={data_dir}: {len(names)} names can be read")
        if not names:
            cause = "there is no such folder, or nothing is in it"
            found = Finding(SUBJECT, ERROR, f"--data_dir={data_dir}: is empty", cause, f"gcloud storage ls {data_dir}")
        yield from refusals or [found]
