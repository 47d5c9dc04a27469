"""Imported weights compute what their source computes; what does not fit is refused, with both sides named."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.data.sources import imagenet_classes
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run.subprocess_training import environment
from tests.support.importing import import_weights, imported_logits

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"
LOGITS = json.loads((GOLDEN / "logits.json").read_text())


def test_timm(tf, weight_files, tmp_path):
    facts = import_weights(GOLDEN / "tf_efficientnet_b0_tiny.safetensors", tmp_path / "out", *weight_files.TINY_FLAGS)
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
    keras_model.save_weights(tmp_path / "model.weights.h5")
    import_weights(tmp_path / "model.weights.h5", tmp_path / "out", *weight_files.TINY_FLAGS)
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
    from efficientnet_tpu.weights.weight_file import open_weight_file

    save(keras_model, tmp_path / name)
    expected = {f"{layer.name}/{weight.name}": weight for layer in keras_model.layers for weight in layer.weights}
    with open_weight_file(str(tmp_path / name), weight_files.tiny()) as source:
        assert source.tensors.keys() == expected.keys()
        for key, tensor in source.tensors.items():
            np.testing.assert_array_equal(tensor.read(), expected[key].numpy(), err_msg=key)


def test_keras_layers_without_names_are_told_by_their_order(weight_files, keras_model, tmp_path):
    import h5py

    from efficientnet_tpu.weights.readers import hdf5_reader

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
    from efficientnet_tpu.exporting import classifier
    from efficientnet_tpu.run import run_record

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
    tf.io.gfile.copy(
        str(GOLDEN / "tf_efficientnet_b0_tiny.safetensors"), "ram://somewhere/tf_efficientnet_b0_tiny.safetensors"
    )
    facts = import_weights(
        "ram://somewhere/tf_efficientnet_b0_tiny.safetensors", tmp_path / "out", *weight_files.TINY_FLAGS
    )
    assert facts["source"]["path"] == "ram://somewhere/tf_efficientnet_b0_tiny.safetensors"
    assert facts["source"]["bytes"] == (GOLDEN / "tf_efficientnet_b0_tiny.safetensors").stat().st_size


def test_keras_files_that_are_no_efficientnet(tf, tmp_path):
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save(tmp_path / "a.keras")
    with pytest.raises(UserError, match=r"not named as an EfficientNet.s by any of keras\.applications"):
        import_weights(tmp_path / "a.keras", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("efficientnet-b0", "efficientnet-b0/model/"),
        pytest.param("efficientnet-lite0", "efficientnet-lite0/", marks=pytest.mark.slow),
    ],
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
    # TensorFlow's reader would take these names for patterns.
    raw, average = str(tmp_path / r"[raw]\*?"), str(tmp_path / "[average]")
    weight_files.save_tf1({f"efficientnet-b0/{name}": value for name, value in variables.items()}, raw)
    averaged = {f"efficientnet-b0/{name}/ExponentialMovingAverage": value for name, value in variables.items()}
    weight_files.save_tf1(averaged, average)
    with pytest.raises(UserError, match="holds no averaged weights"):
        import_weights(raw, tmp_path / "out", *weight_files.TINY_FLAGS, "--tf1_weights=average")
    with pytest.raises(UserError, match="holds averaged weights only"):
        import_weights(average, tmp_path / "out", *weight_files.TINY_FLAGS, "--tf1_weights=raw")
    import_weights(average, tmp_path / "out", *weight_files.TINY_FLAGS)


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
    import_weights(GOLDEN / "tf_efficientnet_b0_tiny.safetensors", root / "run", *flags)
    return root / "run"


@pytest.mark.slow
def test_the_other_commands_take_it(imported, shapes, capsys):
    file = str(shapes / "validation" / "circle" / "00.png")
    cli.main(["main.py", "predict", f"--model_dir={imported}", "--format=json", file])
    by_run = json.loads(capsys.readouterr().out)
    assert sorted(by_run[0]["classes"]) == ["circle", "square", "triangle"]
    cli.main(["main.py", "evaluate", f"--model_dir={imported}", f"--data_dir={shapes}", "--eval_batch_size=8"])
    assert "15 of 57 images" in capsys.readouterr().out


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

    names = import_weights.read_label_names("", 1000)
    assert (names[0], names[282], names[967], names[698], names[999]) == (
        "tench", "tiger cat", "espresso", "palace", "toilet tissue",
    )  # fmt: skip
    assert len(set(names)) == 1000
    numbers = [number for number, _ in imagenet_classes.imagenet_classes()]
    assert numbers == sorted(numbers)
    assert imagenet_classes.are_imagenets(numbers)
    assert imagenet_classes.are_imagenets([f"class {index}" for index in range(1000)])
    assert not imagenet_classes.are_imagenets(numbers[::-1])


def test_labels_as_windows_editors_write_them(tf, tmp_path):
    from efficientnet_tpu.weights.import_weights import read_label_names

    (tmp_path / "labels.txt").write_text("daisy\r\nrose\r\n", encoding="utf-8-sig", newline="")
    assert read_label_names(f"{tmp_path}/labels.txt", 2) == ("daisy", "rose")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\nb\n", "the weights have 3 classes"),
        ("a\na\nb\n", "the weights have 3 classes"),
        ("a\n\nb\n", "class 1 has no name"),
    ],
)
def test_labels_that_do_not_fit(weight_files, tmp_path, text, words):
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(UserError, match=rf"--labels=.*{words}"):
        import_weights(
            GOLDEN / "tf_efficientnet_b0_tiny.safetensors", tmp_path / "out", *weight_files.TINY_FLAGS,
            f"--labels={tmp_path}/labels.txt",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_an_output_dir_that_exists_is_refused(tf, tmp_path):
    with pytest.raises(UserError, match="exists already"):
        import_weights(GOLDEN / "tf_efficientnet_b0_tiny.safetensors", tmp_path)


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
    from efficientnet_tpu.weights import parity

    monkeypatch.setattr(parity, "target_shapes", lambda architecture: {})  # tiny as it is
    monkeypatch.setattr(
        parity, "torch_logits", lambda request, images, python: np.full((len(images), 3), 5.0, np.float32)
    )
    with pytest.raises(UserError, match=r"logits differ by at most .* accepted are 10 times .* Nothing was written"):
        import_weights(GOLDEN / "tf_efficientnet_b0_tiny.safetensors", tmp_path / "out", *weight_files.TINY_FLAGS)
    assert list(tmp_path.iterdir()) == []


def test_an_interpreter_without_pytorch_is_said(tf, weight_files, tmp_path, monkeypatch, capsys):
    import sys

    from efficientnet_tpu.weights import parity

    monkeypatch.setattr(parity, "target_shapes", lambda architecture: {})
    flags = (*weight_files.TINY_FLAGS, f"--parity_python={sys.executable}")
    if parity.importlib.util.find_spec("torch"):
        pytest.skip("PyTorch is installed here")
    facts = import_weights(GOLDEN / "tf_efficientnet_b0_tiny.safetensors", tmp_path / "out", *flags)
    assert facts["parity"]["difference"] is None
    assert facts["parity"]["note"] == f"torch is not installed in {sys.executable}"
    with pytest.raises(UserError, match="--parity_python=/nowhere/python: cannot be run"):
        import_weights(
            GOLDEN / "tf_efficientnet_b0_tiny.safetensors",
            tmp_path / "b",
            *flags[:-1],
            "--parity_python=/nowhere/python",
        )


@pytest.mark.slow
def test_an_import_that_was_killed_amid_writing_is_done_by_the_same_command(weight_files, tmp_path, capsys):
    source = GOLDEN / "tf_efficientnet_b0_tiny.safetensors"
    command = ["import-weights", f"--from={source}", f"--output_dir={tmp_path}/out", *weight_files.TINY_FLAGS]
    for delay in (0.0, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-m", "efficientnet_tpu", *command],
            env=environment(),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
        )
        while not (tmp_path / "out.unfinished.tmp").exists():
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.wait()
        assert {path.name for path in tmp_path.iterdir()} == {"out.unfinished.tmp", "out.lock"}
    cli.main(["main.py", *command])
    said = capsys.readouterr().out
    assert f"{tmp_path}/out.unfinished.tmp: left by a process that was killed; removed" in said
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    logits = imported_logits(tmp_path / "out", np.load(GOLDEN / "timm_tiny.npy"))
    np.testing.assert_allclose(logits, LOGITS["timm_tiny"], atol=1e-4)
