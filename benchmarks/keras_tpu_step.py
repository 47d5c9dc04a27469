"""Compiles keras.applications' network in our training step for a TPU, to compare with `plan --compile`.

    PYTHONPATH=. python benchmarks/keras_tpu_step.py B0 v5e-8 1024

It needs the extras cpu and plan and no TPU, and takes minutes. The step, optimizer, precision and compiler are ours.
The network is theirs, and the step keeps no average of its weights, as ours does.
"""

import sys
from unittest import mock

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.plan import tpu_compiler

IMAGES = 1_281_167


def lower(member: str, num_cores: int, batch_size: int) -> bytes:
    """Returns the HLO of one core's step on EfficientNet<member>."""
    import keras

    from efficientnet_tpu.plan.lowering import lower_train_step
    from efficientnet_tpu.training import train_step

    architecture = build_architecture(f"efficientnet-{member.lower()}")
    size = architecture.resolution

    def build(*_: object) -> keras.Model:
        network = getattr(keras.applications, f"EfficientNet{member}")
        return network(weights=None, input_shape=(size, size, 3), classes=1000, classifier_activation=None)

    with (
        mock.patch.object(train_step, "build_model", build),
        mock.patch.object(train_step.ema, "update", return_value=None),
        mock.patch.object(train_step, "learning_rate_factors", return_value=[1.0]),
    ):
        config = with_options(Config(), {"train_batch_size": batch_size})
        return lower_train_step(architecture, config, num_cores, IMAGES).hlo


def main(member: str, tpu_type: str, batch_size: str) -> None:
    """Prints the step's cost."""
    tpu_compiler.prepare()
    tensorflow_startup.import_tensorflow()
    tpu = parse_slice(tpu_type)
    program = tpu_compiler.Program(lower(member, tpu.num_cores, int(batch_size)))
    found = program.compile(tpu.topology, tpu.num_cores)
    print(
        f"keras.applications EfficientNet{member}, {tpu.name}, {batch_size} images: {tpu_compiler.compiler_version()}"
    )
    print(f"  {found.needed_bytes / 2**30:.2f} GiB, {found.flops / 1e9:.1f} GFLOP, {found.bytes_accessed / 1e9:.2f} GB")
    milliseconds = found.cycles / (tpu.generation.clock_mhz * 1e3)
    print(f"  {found.hbm_bytes / 1e9:.2f} GB of HBM traffic, {milliseconds:.1f} ms by the compiler's cycles")


if __name__ == "__main__":
    main(*sys.argv[1:])
