"""What the plan's tests take to have been compiled: steps of EfficientNet-B0 on v5e-8, at first 128 images a core."""

from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.plan.hlo_cost import Compilation, Cost
from efficientnet_tpu.plan.table import CompiledStep, StepKey

MIB = 2**20
B0 = build_architecture("efficientnet-b0")
KEY = StepKey("efficientnet-b0", None, None, 224, 1000, "v5e", 8, 128, "rmsprop bfloat16")
COMPILED = Compilation(
    argument_bytes=102 * MIB,
    output_bytes=84 * MIB,
    alias_bytes=84 * MIB,
    temp_bytes=1950 * MIB,
    code_bytes=80 * MIB,
    flops=350e9,
    bytes_accessed=26e9,
    costs={
        "depthwise": Cost(3_200_000_000, 45_000_000),
        "pointwise": Cost(4_100_000_000, 21_000_000),
        "optimizer and average": Cost(70_000_000, 1_000_000),
    },
    needed_bytes=2132 * MIB,
)
ROW = CompiledStep(KEY, COMPILED, "libtpu 0.0.52, jax 0.10.2", "1234", 200.0)
# With little effort: memory and arithmetic, but no traffic and no time.
LITTLE = Compilation(
    argument_bytes=100 * MIB, temp_bytes=900 * MIB, code_bytes=30 * MIB, flops=350e9, needed_bytes=1030 * MIB
)
