"""The training step as a TPU would compile it, traced on a CPU.

A real TPUStrategy whose cores are logical CPUs: tracing runs the same Python as on a TPU (tpu.replicate, distributed
variables, what each op asks of its replica), and gives the graph that would be sent there. Nothing can be executed.
"""

import collections
import dataclasses
import types
from typing import Any

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.training.learning_rate import make_schedule
from tests.support.traced_tpu import CORES

BATCH_SIZE = 32


@dataclasses.dataclass
class Trace:
    """A traced loop: the state it trains, and the operations of it that run on the TPU."""

    group_size: int
    mixing: dict
    state: Any
    nodes: list

    def named(self, *kinds):
        return [node for node in self.nodes if node.op in kinds]


MIXING = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "random_erasing": 0.25}
# (cores that share batch norm's statistics, depth, options): local as on 8 cores, groups, and all cores. The deep one
# has residuals and with them stochastic depth.
GROUPS = [(1, 0.5, {}), (2, 0.2, MIXING), (4, 0.2, {})]


def trace_loop(tf, tpu_strategy, group_size, depth, options):
    """The state of a training with these options, and the functions of its loop's graph by name."""
    from efficientnet_tpu.training import train_step

    config = with_options(Config(), {"train_batch_size": BATCH_SIZE} | options)
    architecture = build_architecture("efficientnet-nano", depth_coefficient=depth)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_step, "batch_norm_group_size", lambda num_replicas: group_size)
        state = train_step.make_state(tpu_strategy, architecture, config, make_schedule(config.train, 1000))
    step = train_step.make_train_step(state, config.train, 0, CORES)
    iterator = iter(tpu_strategy.distribute_datasets_from_function(lambda context: dataset_of(tf, context)))
    loop = train_step.make_train_loop(tpu_strategy, step).get_concrete_function(iterator, tf.constant(1))
    return state, {function.signature.name: function for function in loop.graph.as_graph_def().library.function}


def dataset_of(tf, context):
    size = context.get_per_replica_batch_size(BATCH_SIZE)
    return tf.data.Dataset.from_tensors((tf.zeros((32, 32, 3), tf.uint8), 0)).repeat().batch(size, True)


@pytest.fixture(
    scope="module",
    params=[GROUPS[0], *(pytest.param(group, marks=pytest.mark.slow) for group in GROUPS[1:])],
    ids=["local", "pairs", "all"],
)
def trace(request, tf, tpu_strategy):
    group_size, depth, mixing = request.param
    state, functions = trace_loop(tf, tpu_strategy, group_size, depth, mixing)
    nodes = [node for function in functions.values() for node in function.node_def]
    return Trace(group_size, mixing, state, [node for node in nodes if "_tpu_replicate" in node.attr])


def types_of(node):
    return [kind for attribute in node.attr.values() for kind in (attribute.type, *attribute.list.type)]


def batch_norms(trace):
    from efficientnet_tpu.models.layers import BatchNormalization

    return [layer for layer in trace.state.model.layers if isinstance(layer, BatchNormalization)]


def test_it_is_the_real_strategy(tf, tpu_strategy):
    from efficientnet_tpu.hardware.distribution import describe

    assert isinstance(tpu_strategy, tf.distribute.TPUStrategy)
    assert describe(tpu_strategy) == "4 x TPU"


@pytest.mark.slow
def test_the_whole_update_is_on_the_tpu(trace):
    assert len(trace.named("ResourceApplyRMSProp")) == len(trace.state.model.trainable_weights) > 90
    assert len(trace.named("SoftmaxCrossEntropyWithLogits")) == 1
    assert not trace.named("IteratorGetNext", "PyFunc", "EagerPyFunc", "Timestamp")


@pytest.mark.slow
def test_random_numbers_are_stateless(trace):
    random = {node.op for node in trace.nodes if "Random" in node.op or "Rng" in node.op or "Stateful" in node.op}
    assert "StatelessRandomUniformV2" in random  # dropout
    assert all(kind.startswith("StatelessRandom") for kind in random)
    masks = [layer for layer in trace.state.model.layers if "drop" in layer.name]
    # Of mixup, cutmix and erasing one each, and of erasing another for its noise.
    assert len(trace.named("StatelessRandomUniformV2")) == len(masks) + (4 if trace.mixing else 0)
    assert len(masks) == 1 + (3 if trace.group_size == 1 else 0)


@pytest.mark.slow
def test_images_are_mixed_on_the_tpu(trace):
    # Mixup and cutmix each look up two quantiles, erasing the height and width of the attempt that fits.
    assert len(trace.named("GatherV2")) == (6 if trace.mixing else 0)


@pytest.mark.slow
def test_no_strings_on_the_tpu(tf, trace):
    for node in trace.nodes:
        assert tf.string.as_datatype_enum not in types_of(node), node.name


@pytest.mark.slow
def test_convolutions_are_bfloat16_and_what_must_not_round_is_float32(tf, trace):
    def types(*kinds):
        nodes = trace.named(*kinds)
        assert {node.op for node in nodes} == set(kinds)
        return {tf.dtypes.as_dtype(node.attr["T"].type) for node in nodes}

    convolutions = ("Conv2D", "DepthwiseConv2dNative")
    gradients = [f"{kind}Backprop{target}" for kind in convolutions for target in ("Input", "Filter")]
    # But for the two sums that are the gradient of an expansion's kernel, which nearly cancel.
    gradients.remove("Conv2DBackpropFilter")
    assert types(*convolutions, *gradients) == {tf.bfloat16}
    sums = [
        node for node in trace.named("Conv2DBackpropFilter") if tf.dtypes.as_dtype(node.attr["T"].type) == tf.float32
    ]
    assert len(sums) == 2 * sum(layer.name.endswith("_expand_bn") for layer in trace.state.model.layers)
    assert types("Mean", "Rsqrt", "MatMul", "SoftmaxCrossEntropyWithLogits", "L2Loss", "CrossReplicaSum") == {
        tf.float32
    }
    assert types("ResourceApplyRMSProp") == {tf.float32}
    assert {weight.dtype for weight in trace.state.model.weights} == {"float32"}


@pytest.mark.slow
def test_one_collective_for_a_gradient_and_two_for_a_shared_batch_norm(trace):
    sums = len(trace.named("CrossReplicaSum"))
    # Every gradient is summed over the cores. A shared batch norm sums its two moments, stacked, and in the backward
    # pass their gradients. Nothing else: local statistics, averages and metrics stay on their core.
    shared = len(batch_norms(trace)) if trace.group_size > 1 else 0
    assert sums == len(trace.state.model.trainable_weights) + 2 * shared


@pytest.mark.slow
def test_batch_norm_groups_are_consecutive_cores(tf, trace):
    constants = {node.name: node.attr["value"].tensor for node in trace.named("Const")}
    groups = collections.Counter(
        str(tf.make_ndarray(constants[node.input[1].partition(":")[0]]).tolist())
        for node in trace.named("CrossReplicaSum")
    )
    shared = 2 * len(batch_norms(trace))
    expected = {"[[0, 1, 2, 3]]": len(trace.state.model.trainable_weights)}
    if trace.group_size == 2:
        expected["[[0, 1], [2, 3]]"] = shared
    if trace.group_size == 4:
        expected["[[0, 1, 2, 3]]"] += shared
    assert groups == expected


def test_state_can_be_saved_and_read_from_the_host(tf, trace, tmp_path):
    state = trace.state
    path = tf.train.Checkpoint(model=state.model, optimizer=state.optimizer).save(tmp_path / "checkpoint")
    assert len(tf.train.list_variables(path)) > len(state.model.weights)
    for shadow, weight in zip(state.average.weights, state.model.weights, strict=True):
        assert np.array_equal(shadow.numpy(), weight.numpy())
    assert state.loss.result().numpy() == 0


@pytest.fixture(scope="module")
def accumulation(tf, tpu_strategy):
    """The loop over micro-batches on the TPU, batch norm over pairs of cores: the state and the loop's nodes."""
    options = MIXING | {"gradient_accumulation_steps": 2, "freeze": "stages:1"}
    state, functions = trace_loop(tf, tpu_strategy, 2, 0.2, options)
    [loop] = [
        node
        for function in functions.values()
        for node in function.node_def
        if node.op == "While" and "_tpu_replicate" in node.attr
    ]
    return state, functions[loop.attr["body"].func.name]


@pytest.mark.slow
def test_the_loop_over_micro_batches_is_on_the_tpu(tf, accumulation):
    state, body = accumulation
    kinds = collections.Counter(node.op for node in body.node_def)
    trained = [weight for weight in state.model.trainable_weights if len(weight.shape) == 4 and weight.shape[3] > 1]
    # And the products of channels that an expansion's gradient goes by.
    expansions = [layer for layer in state.model.layers if layer.name.endswith("_expand_bn") and layer.trainable]
    assert kinds["Conv2DBackpropFilter"] - len(expansions) == len(trained) > 20
    assert kinds["SoftmaxCrossEntropyWithLogits"] == 1
    # Neither updates of weights nor the sums of gradients over cores, which come once a step.
    assert not kinds["ResourceApplyRMSProp"]
    shared = [layer for layer in batch_norms(Trace(2, {}, state, [])) if layer.trainable]
    assert kinds["CrossReplicaSum"] == 2 * len(shared)
    for node in body.node_def:
        assert tf.string.as_datatype_enum not in types_of(node), node.name
        assert node.op not in ("PyFunc", "EagerPyFunc", "FusedBatchNormV3"), node.name
        assert "Random" not in node.op or node.op.startswith("StatelessRandom"), node.name


@pytest.mark.slow
def test_recalibration_traces(tf, tpu_strategy):
    from efficientnet_tpu.models.efficientnet import build_model
    from efficientnet_tpu.training import precise_batch_norm

    with tpu_strategy.scope():
        model = build_model(build_architecture("efficientnet-nano", depth_coefficient=0.2))
    iterator = iter(tpu_strategy.distribute_datasets_from_function(lambda context: dataset_of(tf, context)))
    layers = batch_norms(Trace(1, {}, types.SimpleNamespace(model=model), []))
    moments = precise_batch_norm.make_moments(tpu_strategy, model, layers)
    graph = moments.get_concrete_function(next(iterator)[0]).graph
    nodes = [node for node in graph.as_graph_def().node if "_tpu_replicate" in node.attr]
    kinds = collections.Counter(node.op for node in nodes)
    assert kinds["Conv2D"] > 10
    assert kinds["CrossReplicaSum"] == 2
    assert not kinds["AssignVariableOp"] + kinds["FusedBatchNormV3"]
    assert not [kind for kind in kinds if "Random" in kind]


@pytest.mark.slow
def test_the_plain_network_is_trained_where_fused_gradients_are_off(tf, tpu_strategy):
    """The same update by TensorFlow's own gradients: one convolution's gradient for each kernel, nothing twice."""
    state, functions = trace_loop(tf, tpu_strategy, 2, 0.2, {"fused_gradients": "off"})
    nodes = [node for function in functions.values() for node in function.node_def if "_tpu_replicate" in node.attr]
    kinds = collections.Counter(node.op for node in nodes)
    kernels = [weight for weight in state.model.trainable_weights if len(weight.shape) == 4 and weight.shape[3] > 1]
    assert kinds["Conv2D"] == kinds["Conv2DBackpropFilter"] == len(kernels) > 20
    assert kinds["ResourceApplyRMSProp"] == len(state.model.trainable_weights)
    # In pairs of cores, each batch norm's moments and their gradients.
    shared = 2 * len(batch_norms(Trace(2, {}, state, [])))
    assert kinds["CrossReplicaSum"] == len(state.model.trainable_weights) + shared
    assert not kinds["XlaOptimizationBarrier"] + kinds["FusedBatchNormV3"]


@pytest.mark.slow
@pytest.mark.parametrize("group_size", [1, 2])
def test_rematerialization_is_on_the_tpu(tf, tpu_strategy, group_size):
    state, functions = trace_loop(tf, tpu_strategy, group_size, 0.2, {"rematerialize": "blocks"})
    nodes = [node for function in functions.values() for node in function.node_def if "_tpu_replicate" in node.attr]
    kinds = collections.Counter(node.op for node in nodes)
    blocks = {layer.name.partition("_")[2].partition("_")[0] for layer in state.model.layers if "block_" in layer.name}
    # One before a block is computed again, one before its projection's gradient is.
    assert kinds["XlaOptimizationBarrier"] == 2 * len(blocks) > 6
    norms = batch_norms(Trace(group_size, {}, state, []))
    head = 1  # which is not computed again
    shared = 3 * (len(norms) - head) + 2 * head if group_size > 1 else 0
    assert kinds["CrossReplicaSum"] == len(state.model.trainable_weights) + shared
    assert not [node.name for node in nodes if "Random" in node.op and not node.op.startswith("StatelessRandom")]
