"""Finding the devices: what a run is spread over, in which precision, and what is said when that cannot be."""

from importlib import metadata
from types import SimpleNamespace

import pytest

from efficientnet_tpu.config import HardwareConfig, UserError


@pytest.fixture(scope="module")
def distribution(tf):
    from efficientnet_tpu import distribution

    return distribution


@pytest.fixture
def tpu_strategy(tf):
    """A TPUStrategy by class alone: it cannot be made without a TPU."""
    return object.__new__(tf.distribute.TPUStrategy)


def test_without_flags_it_runs_on_the_cpu(tf, distribution):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("has a GPU")
    strategy = distribution.connect(HardwareConfig())
    assert strategy is tf.distribute.get_strategy()
    assert distribution.describe(strategy) == "1 x CPU"


def test_virtual_replicas(tf, distribution):
    strategy = distribution.connect(HardwareConfig(virtual_replicas=4))
    assert strategy.num_replicas_in_sync == 4
    with strategy.scope():
        copies = strategy.experimental_local_results(tf.Variable(0.0))
    assert [copy.device[-5:] for copy in copies] == ["CPU:0", "CPU:1", "CPU:2", "CPU:3"]
    # A split made earlier serves fewer replicas too, but cannot be widened once TensorFlow runs.
    assert distribution.connect(HardwareConfig(virtual_replicas=2)).num_replicas_in_sync == 2
    with pytest.raises(UserError, match=r"^--virtual_replicas=5: TensorFlow has started with fewer devices\.$"):
        distribution.connect(HardwareConfig(virtual_replicas=5))


def test_tpu_without_support_in_tensorflow(tf, distribution):
    if any(found.metadata["Name"] == "tensorflow-tpu" for found in metadata.distributions()):
        pytest.skip("this is tensorflow-tpu")
    with pytest.raises(UserError) as error:
        distribution.connect(HardwareConfig(tpu="local"))
    message = str(error.value)
    assert message.startswith(f"--tpu=local: this TensorFlow {tf.__version__} has no TPU support; tensorflow-tpu has.")
    assert "pip install -e '.[tpu]'" in message
    assert "pip uninstall tensorflow" in message


def test_named_tpu_without_the_client(distribution, monkeypatch):
    # As if TensorFlow had the TPU kernels and cloud-tpu-client were not installed.
    registered = SimpleNamespace(get_registered_kernels_for_op=lambda op: SimpleNamespace(kernel=["one"]))
    monkeypatch.setattr(distribution, "kernels", registered)
    monkeypatch.setattr(distribution.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^--tpu=pod-7: .* needs cloud-tpu-client: pip install -e '\.\[cloud\]'\n"):
        distribution.connect(HardwareConfig(tpu="pod-7"))


@pytest.mark.parametrize(("batch_size", "share"), [(4, 1), (256, 64)])
def test_batch_is_shared_evenly(distribution, batch_size, share):
    strategy = SimpleNamespace(num_replicas_in_sync=4)
    assert distribution.per_replica_batch_size(batch_size, strategy, "train_batch_size") == share


@pytest.mark.parametrize(
    ("flag", "batch_size", "replicas", "choices"),
    [
        ("train_batch_size", 30, 4, "28 or 32"),
        ("eval_batch_size", 33, 32, "32 or 64"),
        ("train_batch_size", 3, 4, "4"),  # 0 is no choice
    ],
)
def test_batch_that_does_not_divide(distribution, flag, batch_size, replicas, choices):
    with pytest.raises(UserError) as error:
        distribution.per_replica_batch_size(batch_size, SimpleNamespace(num_replicas_in_sync=replicas), flag)
    assert str(error.value) == f"--{flag}={batch_size}: does not divide over {replicas} devices. Use {choices}."


@pytest.mark.parametrize(
    ("precision", "elsewhere", "on_tpu"),
    [
        ("auto", "float32", "mixed_bfloat16"),
        ("float32", "float32", "float32"),
        ("bfloat16", "mixed_bfloat16", "mixed_bfloat16"),
    ],
)
def test_precision_policy(tf, distribution, tpu_strategy, precision, elsewhere, on_tpu):
    hardware = HardwareConfig(precision=precision)
    assert distribution.precision_policy(hardware, tf.distribute.get_strategy()) == elsewhere
    assert distribution.precision_policy(hardware, tpu_strategy) == on_tpu


def test_precision_holds_within_its_context_alone(distribution):
    import keras

    def policy():
        return keras.layers.Dense(1).dtype_policy.name

    before = policy()
    with distribution.precision("mixed_bfloat16"):
        assert policy() == "mixed_bfloat16"
        with distribution.precision("float32"):
            assert policy() == "float32"
        assert policy() == "mixed_bfloat16"
    assert policy() == before
    with pytest.raises(KeyError), distribution.precision("mixed_bfloat16"):
        raise KeyError
    assert policy() == before
