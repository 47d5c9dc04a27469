"""A training step of keras.applications' network by Keras' own loop, on whatever device there is, as JSON."""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main() -> None:
    """Measures each batch size and writes the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch_sizes", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--report", required=True)
    options = parser.parse_args()

    import keras
    import tensorflow as tf

    from efficientnet_tpu.speed import timings
    from efficientnet_tpu.speed.training_steps import batch

    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    device = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"  # Keras' own loop is not made for TPUs here
    rows = []
    for batch_size in map(int, options.batch_sizes.split(",")):
        started = time.monotonic()
        model = getattr(keras.applications, options.model)(weights=None, input_shape=(options.size, options.size, 3))
        optimizer = keras.optimizers.RMSprop(0.016, rho=0.9, momentum=0.9, epsilon=1e-3)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"], jit_compile=False)
        images, labels = map(tf.constant, batch(batch_size, options.size, 1000))
        try:
            rows.append(
                timings.measure(
                    device,
                    batch_size,
                    lambda model=model, images=images, labels=labels: model.train_on_batch(images, labels),
                    options.seconds,
                    started,
                )
            )
        except tf.errors.ResourceExhaustedError:
            rows.append(timings.Timing(device, batch_size, failure="out of memory"))
    Path(options.report).write_text(timings.report({"benchmark": "peer", "model": options.model}, rows))


if __name__ == "__main__":
    main()
