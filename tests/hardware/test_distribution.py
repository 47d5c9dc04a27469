"""Finding the devices: what a run is spread over, in which precision, and what is said when that cannot be."""

import json
from types import SimpleNamespace

import pytest

from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.preemption import StoppedError
from efficientnet_tpu.installation import installed_version


@pytest.fixture(scope="module")
def distribution(tf):
    from efficientnet_tpu.hardware import distribution

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


@pytest.fixture
def connected(tf, distribution, monkeypatch):
    """What is called, in order, where TensorFlow has TPUs, GPUs and hosts that are not there. devices: their names."""
    calls = SimpleNamespace(made=[], gpus=0, error=None, threads=[])

    def note(name, result=None):
        def called(*arguments, **options):
            calls.made.append((name, options) if options else name)
            if calls.error and name == "initialize_tpu_system":
                raise calls.error
            return result or f"a {name}"

        return called

    registered = SimpleNamespace(get_registered_kernels_for_op=lambda op: SimpleNamespace(kernel=["one"]))
    monkeypatch.setattr(distribution, "kernels", registered)
    calls.tpu = None
    monkeypatch.setattr(distribution.local_tpu, "find", lambda root="/", environment=None: calls.tpu)
    for name in ("TF_CONFIG", "TPU_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", note("TPUClusterResolver"))
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", note("connect_to_cluster"))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", note("initialize_tpu_system"))
    for name in ("TPUStrategy", "MirroredStrategy", "MultiWorkerMirroredStrategy"):
        monkeypatch.setattr(tf.distribute, name, note(name))
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind: [f"{kind}:{index}" for index in range(calls.gpus)]
    )
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", calls.threads.append)
    return calls


def test_the_tpu_of_a_tpu_vm(distribution, connected, monkeypatch, capsys):
    connected.tpu = distribution.local_tpu.LocalTpu("TPU v5e on the PCI bus", "v5e")
    assert distribution.connect(HardwareConfig()) == "a TPUStrategy"
    # Connecting is for TPUs elsewhere.
    options = {"tpu": "local", "zone": None, "project": None}
    assert connected.made == [("TPUClusterResolver", options), "initialize_tpu_system", "TPUStrategy"]
    assert connected.threads == [1]  # the CPU prepares images
    assert capsys.readouterr().out == "using the TPU (TPU v5e on the PCI bus); --tpu=none does not\n"
    connected.made.clear()
    distribution.connect(HardwareConfig(tpu="none"))
    assert connected.made == []
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(distribution, "virtual_devices", lambda count: [f"CPU:{index}" for index in range(count)])
    assert distribution.connect(HardwareConfig(virtual_replicas=2)) == "a MirroredStrategy"
    assert connected.made == ["MirroredStrategy"]


def test_a_tpu_elsewhere(distribution, connected, monkeypatch):
    monkeypatch.setattr(distribution.tpu_discovery, "require_reachable", lambda name, zone, project: (zone, "found"))
    assert distribution.connect(HardwareConfig(tpu="pod", tpu_zone="z")) == "a TPUStrategy"
    options = {"tpu": "pod", "zone": "z", "project": "found"}
    assert connected.made == [
        ("TPUClusterResolver", options), "connect_to_cluster", "initialize_tpu_system", "TPUStrategy",
    ]  # fmt: skip


def test_a_tpu_that_does_not_answer(tf, distribution, connected, monkeypatch):
    message = "Graph execution error:\n\nDetected at x\n<stack traces unavailable>\nNo TPU devices found \n\t [[x]]"
    connected.error = tf.errors.NotFoundError(None, None, message)
    connected.tpu = distribution.local_tpu.LocalTpu("TPU v5e on the PCI bus", "v5e")
    monkeypatch.setattr(distribution.local_tpu, "installed_version", {"tensorflow-tpu": "2.19.1"}.get)
    with pytest.raises(UserError, match=r"^--tpu=local: no TPU answers: No TPU devices found\n.* may hold the TPU"):
        distribution.connect(HardwareConfig(tpu="local"))


@pytest.mark.parametrize(("gpus", "made"), [(0, []), (1, []), (2, ["MirroredStrategy"])])
def test_all_gpus_are_used(tf, distribution, connected, gpus, made):
    connected.gpus = gpus
    strategy = distribution.connect(HardwareConfig())
    assert connected.made == made
    assert (strategy is tf.distribute.get_strategy()) == (gpus < 2)
    assert connected.threads == ([1] if gpus else [])


TWO_HOSTS = json.dumps({"cluster": {"worker": ["ada:2222", "bob:2222"]}, "task": {"type": "worker", "index": 1}})


def test_several_hosts(distribution, connected, monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", TWO_HOSTS)
    assert distribution.connect(HardwareConfig()) == "a MultiWorkerMirroredStrategy"
    assert capsys.readouterr().out == "host 1 of 2 (bob:2222): waiting for the others\n"


@pytest.mark.parametrize(
    ("hardware", "refused"),
    [({"tpu": "local"}, "--tpu=local: .*, or give --tpu=none"), ({"virtual_replicas": 2}, "--virtual_replicas: ")],
)
def test_several_hosts_go_with_neither_tpu_nor_virtual_devices(distribution, connected, monkeypatch, hardware, refused):
    monkeypatch.setenv("TF_CONFIG", TWO_HOSTS)
    with pytest.raises(UserError, match=rf"^{refused}"):
        distribution.connect(HardwareConfig(**hardware))
    assert connected.made == []


def test_a_single_host_is_the_chief_and_agrees_with_itself(tf, distribution):
    strategy = tf.distribute.get_strategy()
    assert distribution.is_chief(strategy)
    assert distribution.num_hosts(strategy) == 1
    assert distribution.from_chief(strategy, 7) == 7
    assert [distribution.any_host(strategy, value) for value in (True, False)] == [True, False]
    distribution.require_same(strategy, "flags", "the flags")


def test_on_a_single_host_errors_stay_what_they_are(tf, distribution):
    with pytest.raises(tf.errors.UnavailableError), distribution.explained_loss_of_host(tf.distribute.get_strategy()):
        raise tf.errors.UnavailableError(None, None, "away")


def test_other_errors_of_a_run_of_several_hosts_stay_what_they_are(tf, distribution):
    strategy = object.__new__(tf.distribute.MultiWorkerMirroredStrategy)
    for error in (tf.errors.InternalError, tf.errors.ResourceExhaustedError):
        with pytest.raises(error), distribution.explained_loss_of_host(strategy):
            raise error(None, None, "out of memory")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "MultiWorkerMirroredStrategy",
            "host 1 of TF_CONFIG: another host is gone (Socket closed). Start all of them again by the same command: "
            "the run continues from its last checkpoint.",
        ),
        (
            "TPUStrategy",
            "the TPU: one of its hosts is gone (Socket closed). Start its server again, and then the same command: the "
            "run continues from its last checkpoint.",
        ),
    ],
)
def test_a_lost_host_is_explained(tf, distribution, monkeypatch, kind, message):
    monkeypatch.setenv("TF_CONFIG", TWO_HOSTS)
    strategy = object.__new__(getattr(tf.distribute, kind))
    with pytest.raises(StoppedError) as stopped, distribution.explained_loss_of_host(strategy):
        raise tf.errors.UnavailableError(None, None, "Socket closed\nAdditional GRPC error information")
    assert str(stopped.value) == message
    assert stopped.value.exit_status == 42


def test_tpu_without_support_in_tensorflow(tf, distribution):
    if installed_version("tensorflow-tpu"):
        pytest.skip("this is tensorflow-tpu")
    with pytest.raises(UserError) as error:
        distribution.connect(HardwareConfig(tpu="pod"))
    message = str(error.value)
    assert message.startswith(f"--tpu=pod: this TensorFlow {tf.__version__} has no TPU support; tensorflow-tpu has.")
    assert "requirements-tpu.txt" in message
    assert "pip uninstall tensorflow" in message


@pytest.mark.parametrize(("batch_size", "share"), [(4, 1), (256, 64)])
def test_batch_is_shared_evenly(distribution, batch_size, share):
    strategy = SimpleNamespace(num_replicas_in_sync=4)
    assert distribution.per_replica_batch_size(batch_size, strategy, "train_batch_size") == share


@pytest.mark.parametrize(
    ("batch_size", "num_images", "replicas", "fitting"),
    [(256, 20, 1, 20), (256, 256, 1, 256), (256, 300, 1, 256), (256, 1, 8, 8), (256, 20, 8, 24), (64, 60, 8, 64)],
)
def test_batch_is_cut_to_the_images(distribution, batch_size, num_images, replicas, fitting):
    strategy = SimpleNamespace(num_replicas_in_sync=replicas)
    assert distribution.fitting_batch_size(batch_size, num_images, strategy) == fitting


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


@pytest.mark.parametrize(
    ("precision", "cpu_info", "is_said"),
    [
        ("bfloat16", "flags : fpu avx512f avx512_vnni", True),
        ("bfloat16", "flags : fpu avx512f avx512_bf16 amx_tile", False),
        ("bfloat16", "Features : fp asimd bf16", False),
        ("bfloat16", None, False),
        ("float32", "flags : fpu avx512f", False),
        ("auto", "flags : fpu avx512f", False),
    ],
)
def test_bfloat16_that_a_cpu_emulates_is_said(tf, distribution, tmp_path, precision, cpu_info, is_said):
    file = tmp_path / "cpuinfo"
    if cpu_info:
        file.write_text(cpu_info + "\n")
    hardware = HardwareConfig(precision=precision)
    line = distribution.describe_emulation(hardware, tf.distribute.get_strategy(), str(file))
    assert ("--precision=bfloat16" in line, bool(line)) == (is_said, is_said)


def test_emulated_bfloat16_is_the_tpus_own_matter_there(distribution, tpu_strategy, tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("flags : fpu\n")
    assert not distribution.describe_emulation(HardwareConfig(precision="bfloat16"), tpu_strategy, str(file))


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
