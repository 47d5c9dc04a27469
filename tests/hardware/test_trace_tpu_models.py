"""Published networks as a TPU would compile them, in training and in evaluation: nothing in them is the host's."""

import dataclasses

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.training.learning_rate import make_schedule
from tests.support.traced_tpu import CORES

BATCH_SIZE = 8
# B0 as it is; L2's structure, its widths and every kind of block, at a size that traces in a minute.
NETWORKS = {
    "efficientnet-b0": {},
    "efficientnet-l2": {"depth_coefficient": 0.5, "resolution": 96},
}
# What a TPU has and a CPU's XLA has not.
TPU_ONLY = {"TPUReplicateMetadata", "CrossReplicaSum", "AllToAll"}


@dataclasses.dataclass
class Recorded:
    """A step that remembers the graph it was traced in, whose tensors know their shapes."""

    step: object
    graph: object = None

    def __call__(self, *arguments):
        import tensorflow as tf

        self.graph = tf.compat.v1.get_default_graph()
        self.step(*arguments)

    def operations(self):
        """Those on the TPU."""
        return [operation for operation in self.graph.get_operations() if "_tpu_replicate" in operation.node_def.attr]


def batches(tf, strategy, *elements):
    def dataset(context):
        size = context.get_per_replica_batch_size(BATCH_SIZE)
        return tf.data.Dataset.from_tensors(elements).repeat().batch(size, drop_remainder=True)

    return iter(strategy.distribute_datasets_from_function(dataset))


@pytest.fixture(scope="module", params=NETWORKS)
def network(request, tf, tpu_strategy):
    """A network, its parts under training, and the operations of its steps."""
    from efficientnet_tpu import evaluate
    from efficientnet_tpu.training import train_step

    architecture = build_architecture(request.param, **NETWORKS[request.param])
    config = with_options(Config(), {"train_batch_size": BATCH_SIZE})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_step, "batch_norm_group_size", lambda num_replicas: 2)
        state = train_step.make_state(tpu_strategy, architecture, config, make_schedule(config.train, 1000))
    image = tf.zeros((architecture.resolution, architecture.resolution, 3), tf.uint8)

    training = Recorded(train_step.make_train_step(state, config.train, 0, CORES))
    iterator = batches(tf, tpu_strategy, image, 0)
    train_step.make_train_loop(tpu_strategy, training).get_concrete_function(iterator, tf.constant(1))

    models = {"": state.average, "raw_": state.model}
    metrics = {prefix: evaluate.make_metrics(tpu_strategy, architecture.num_classes) for prefix in models}
    evaluation = Recorded(evaluate.make_eval_step(models, metrics))
    iterator = batches(tf, tpu_strategy, image, 0, 1.0)

    @tf.function
    def eval_loop(iterator, num_steps):
        for _ in tf.range(num_steps):
            tpu_strategy.run(evaluation, args=next(iterator))

    eval_loop.get_concrete_function(iterator, tf.constant(1))
    return architecture, state, {"train": training.operations(), "eval": evaluation.operations()}


STEPS = pytest.mark.parametrize("step", ["train", "eval"])


@pytest.mark.slow
def test_the_network_is_the_one_that_was_meant(network):
    architecture, state, operations = network
    kinds = {step: [operation.type for operation in operations[step]] for step in operations}
    convolutions = kinds["train"].count("Conv2D") + kinds["train"].count("DepthwiseConv2dNative")
    kernels = [weight for weight in state.model.trainable_weights if len(weight.shape) == 4]
    depthwise = [kernel for kernel in kernels if kernel.shape[-1] == 1]
    expansions = sum(block.expand_ratio != 1 for block in architecture.blocks)
    gates = sum(block.se_filters > 0 for block in architecture.blocks)
    # Each kernel has its convolution. An expansion is traced once more with its batch norm, and its gradient has one of
    # its own; a gate's two convolutions are traced twice more with the projection, forwards and backwards.
    assert convolutions == len(kernels) + 2 * expansions + 2 * 2 * gates
    assert kinds["eval"].count("Conv2D") == 2 * (len(kernels) - len(depthwise))  # two models
    assert kinds["train"].count("ResourceApplyRMSProp") == len(state.model.trainable_weights)
    if architecture.name == "efficientnet-l2":
        assert architecture.head_filters == 5504
        assert {block.kernel_size for block in architecture.blocks} == {3, 5}


@STEPS
@pytest.mark.slow
def test_a_tpu_can_compile_every_operation(network, step):
    from tensorflow.python.framework import kernels

    _, _, operations = network
    compiled = {"XLA_CPU_JIT"}
    for kind in {operation.type for operation in operations[step]} - TPU_ONLY:
        devices = {kernel.device_type for kernel in kernels.get_registered_kernels_for_op(kind).kernel}
        assert devices & compiled, f"{kind}: only {devices}"


@STEPS
@pytest.mark.slow
def test_every_shape_is_known(network, step):
    unknown = [
        (operation.type, operation.name, output.shape)
        for operation in network[2][step]
        for output in operation.outputs
        if not output.shape.is_fully_defined()
    ]
    assert unknown == []


@STEPS
@pytest.mark.slow
def test_no_strings_and_no_calls_home(tf, network, step):
    for operation in network[2][step]:
        assert tf.string not in {tensor.dtype.base_dtype for tensor in (*operation.inputs, *operation.outputs)}
        assert operation.type not in ("PyFunc", "EagerPyFunc", "IteratorGetNext", "Timestamp", "Print", "Assert")
        assert "Random" not in operation.type or operation.type.startswith("StatelessRandom")


@pytest.mark.slow
def test_evaluation_reduces_nothing_between_cores(network):
    # Metrics are summed when they are read.
    assert "CrossReplicaSum" not in {operation.type for operation in network[2]["eval"]}


@pytest.mark.slow
def test_a_step_moves_memory_for_what_it_needs(network):
    """No tensor is larger than the largest activation: nothing is tiled over the image or held for all classes."""
    architecture, state, operations = network
    per_core = BATCH_SIZE // CORES
    largest = max(int(np.prod(output.shape)) for operation in operations["train"] for output in operation.outputs)
    widest = max(block.input_filters * block.expand_ratio for block in architecture.blocks)
    activation = per_core * (architecture.resolution // 2) ** 2 * widest
    weights = max(int(np.prod(weight.shape)) for weight in state.model.trainable_weights)
    assert largest <= max(activation, weights)
