"""The Keras, TFLite and ONNX files that `export` writes: each answers as the run does; foreign ones are refused."""

import dataclasses
import io
import json
import random
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from efficientnet_tpu.errors import UserError
from tests.support.exported_run import CLASSES, class_files, run_probabilities

KERAS_READER = """
import sys
import keras

model = keras.models.load_model(sys.argv[1])
assert not any(name.startswith("efficientnet") for name in sys.modules)
print(model.output_shape[-1], any("norm" in type(layer).__name__.lower() and layer.count_params() > 9
      for layer in model.layers))
"""
files = pytest.fixture(scope="module")(class_files)
expected = pytest.fixture(scope="module")(run_probabilities)


def _require_onnx():
    for module in ("onnx", "onnxruntime"):
        pytest.importorskip(module, reason="comes with the extra onnx")


@pytest.fixture(scope="module")
def exported_files(trained, tmp_path_factory):
    """--output_dir with every format but ONNX, which needs an extra. 8-bit integers may lose anything."""
    from efficientnet_tpu import cli

    output_dir = tmp_path_factory.mktemp("exported_files") / "out"
    cli.main([
        "main.py", "export", f"--model_dir={trained}", f"--output_dir={output_dir}",
        "--export_format=keras,tflite,tflite-int8", "--max_accuracy_drop=100",
    ])  # fmt: skip
    return output_dir


@pytest.mark.slow
@pytest.mark.parametrize(("file", "tolerance"), [("model.keras", 1e-5), ("model.tflite", 1e-5)])
def test_files_give_the_runs_answers(exported_files, files, expected, file, tolerance):
    from efficientnet_tpu.exporting import formats

    loaded = formats.load_exported(str(exported_files / file))
    assert list(loaded.label_names) == CLASSES
    found = loaded.probabilities([path.read_bytes() for path in files])
    np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.slow
def test_onnx_gives_the_runs_answers_and_carries_the_labels(trained, files, expected, tmp_path):
    _require_onnx()
    import onnx

    from efficientnet_tpu import cli
    from efficientnet_tpu.exporting import formats

    out = tmp_path / "out"
    cli.main(["main.py", "export", f"--model_dir={trained}", f"--output_dir={out}", "--export_format=onnx"])
    loaded = formats.load_exported(str(out / "model.onnx"))
    np.testing.assert_allclose(loaded.probabilities([path.read_bytes() for path in files]), expected, atol=1e-5)
    model = onnx.load(str(out / "model.onnx"))
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}["labels"]) == CLASSES
    # Nothing that a runtime without TensorFlow's habits has to rearrange.
    assert [node.op_type for node in model.graph.node].count("Transpose") == 1
    assert not {"ReduceMean", "BatchNormalization", "Pad"} & {node.op_type for node in model.graph.node}


@pytest.mark.slow
def test_8_bit_integers_in_and_out_and_of_the_same_opinion(tf, exported_files, files, expected):
    from efficientnet_tpu.exporting import formats, tflite

    interpreter = tflite.make_interpreter((exported_files / "model-int8.tflite").read_bytes())
    [given], [wanted] = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == wanted["dtype"] == np.uint8
    assert given["quantization"][0] == pytest.approx(1, abs=0.01)  # pixels as they are
    assert given["quantization"][1] == 0
    loaded = formats.load_exported(str(exported_files / "model-int8.tflite"))
    found = loaded.probabilities([path.read_bytes() for path in files]).numpy()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=0.03)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.6


def _fields(table, *slots):
    """Where a flatbuffer's table has its fields, by their numbers; each one that is asked for must be there."""
    offsets = [table.Offset(4 + 2 * slot) for slot in slots]
    assert all(offsets)
    return [table.Pos + offset for offset in offsets]


def _only(table, slot):
    """The only table in a vector of them."""
    from flatbuffers.table import Table

    [offset] = [table.Offset(4 + 2 * slot)]
    assert table.VectorLen(offset) == 1
    return Table(table.Bytes, table.Indirect(table.Vector(offset)))


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.tflite", "model-int8.tflite"])
def test_metadata_as_mediapipe_reads_them(exported_files, file):
    """That MediaPipe does, and names the classes, has been seen; here its schema is followed by hand."""
    from flatbuffers.table import Table
    from tensorflow.lite.python import schema_py_generated as schema

    content = (exported_files / file).read_bytes()
    model = schema.Model.GetRootAsModel(content, 0)
    entries = {model.Metadata(index).Name(): model.Metadata(index) for index in range(model.MetadataLength())}
    buffer = model.Buffers(entries[b"TFLITE_METADATA"].Buffer()).DataAsNumpy().tobytes()
    assert buffer[4:8] == b"M001"
    root = Table(buffer, int.from_bytes(buffer[:4], "little"))
    name, version, parser = _fields(root, 0, 2, 7)
    assert root.String(name) == b"efficientnet-nano"
    assert root.String(version).startswith(b"step ")
    assert root.String(parser) == b"1.0.0"
    graph = _only(root, 3)
    given, wanted = _only(graph, 2), _only(graph, 3)
    kind, properties = _fields(Table(buffer, given.Indirect(_fields(given, 3)[0])), 0, 1)
    assert buffer[kind] == 2  # ImageProperties
    [color_space] = _fields(Table(buffer, given.Indirect(properties)), 0)
    assert buffer[color_space] == 1  # RGB
    labels = _only(wanted, 6)
    label_file, axis = _fields(labels, 0, 2)
    assert labels.String(label_file) == b"labels.txt"
    assert buffer[axis] == 2  # TENSOR_AXIS_LABELS


def _with_one_bit_changed(path, chance):
    content = bytearray(path.read_bytes())
    bit = chance.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["", "model.keras", "model.tflite", "model-int8.tflite", "model.onnx"])
def test_no_changed_bit_of_a_real_export_is_answered(trained, tmp_path, file):
    from efficientnet_tpu import cli
    from efficientnet_tpu.exporting import formats

    if file == "model.onnx":
        _require_onnx()
    kind = {"": "savedmodel", "model-int8.tflite": "tflite-int8"}.get(file, file.rpartition(".")[2])
    out = tmp_path / "out"
    cli.main([
        "main.py", "export", f"--model_dir={trained}", f"--output_dir={out}", f"--export_format={kind}",
        "--max_accuracy_drop=100",
    ])  # fmt: skip
    assert subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True, check=False).returncode == 0
    chance = random.Random(0)
    for attempt in range(40):
        damaged = shutil.copytree(out, tmp_path / str(attempt))
        unread = ("README.md", "export.json", "SHA256SUMS")  # by the model; of the last see test_digest.py
        files = [path for path in damaged.rglob("*") if path.is_file() and path.name not in unread]
        parts = [damaged / file] if file else files
        largest = max(parts, key=lambda path: path.stat().st_size)
        _with_one_bit_changed(largest if attempt % 2 else chance.choice(parts), chance)
        with pytest.raises(UserError, match=r"(is damaged|was not written)"):
            formats.load_exported(str(damaged / file))


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.tflite", "model-int8.tflite"])
def test_resized_to_a_batch_it_answers_the_same(tf, exported_files, files, file):
    from efficientnet_tpu.data.preprocessing import Preparation, eval_images
    from efficientnet_tpu.exporting import tflite

    images = eval_images(tf.constant([path.read_bytes() for path in files]), Preparation(32, 5)).numpy()
    content = (exported_files / file).read_bytes()
    loaded = tflite.load(content, "x")
    expected = np.concatenate([loaded.probabilities(images[index : index + 1]) for index in range(len(images))])
    together = loaded.probabilities(images)
    interpreter = tflite.make_interpreter(content)
    [given], [wanted] = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], images)
    interpreter.invoke()
    found = np.float32(interpreter.get_tensor(wanted["index"]))
    if wanted["dtype"] == np.uint8:
        found /= 256
    np.testing.assert_allclose(found, expected, atol=1e-5 if wanted["dtype"] == np.float32 else 1 / 256 + 1e-6)
    np.testing.assert_array_equal(together, found)


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_network_whose_last_maps_are_one_pixel_is_resized_to_any_batch(tf, kind):
    """One with a residual block on such a map: for one image, the converter makes constants of its shape."""
    from efficientnet_tpu.exporting import tflite
    from efficientnet_tpu.exporting.inference_model import inference_model
    from efficientnet_tpu.exporting.metadata import ExportMetadata
    from efficientnet_tpu.models.build import build_model
    from tests.support.small_training import small

    network = small()
    *_, last = network.blocks
    residual = dataclasses.replace(last, stage=7, input_filters=last.filters, strides=1)
    network = dataclasses.replace(network, resolution=32, blocks=(*network.blocks, residual))
    model = inference_model(build_model(network))
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    last_map = tf.keras.Model(model.input, model.get_layer("head_conv").output)
    assert last_map(images).shape == (5, 1, 1, 32)
    metadata = ExportMetadata("small", 1, tuple("abcde"), 32, 5)
    if kind == "int8":
        content, tolerance = tflite.int8_file_content(model, metadata, images), 3 / 256
    else:
        content, tolerance = tflite.file_content(model, metadata), 1e-6
    loaded = tflite.load(content, "x")
    expected = model(images).numpy()
    for count in (5, 1, 2):
        np.testing.assert_allclose(loaded.probabilities(images[:count]), expected[:count], atol=tolerance)
    interpreters = [tflite.make_interpreter(content)]
    with pytest.warns(UserWarning, match="tf.lite.Interpreter is deprecated"):
        interpreters.append(tf.lite.Interpreter(model_content=content))
    for interpreter in interpreters:
        [given] = interpreter.get_input_details()
        assert given["shape"].tolist() == [1, 32, 32, 3]  # for programs that do not resize it
        interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.keras", "model.tflite", "model-int8.tflite"])
def test_labels_can_be_unzipped_from_files(exported_files, file):
    with zipfile.ZipFile(exported_files / file) as archive:
        assert archive.read("labels.txt").decode().split() == CLASSES
        facts = json.loads(archive.read("classifier.json"))
    assert (facts["resolution"], facts["eval_crop_padding"], facts["label_names"]) == (32, 5, CLASSES)


@pytest.mark.slow
def test_labels_lie_beside_the_files(exported_files):
    names = {path.name for path in exported_files.iterdir()}
    texts = {"labels.txt", "README.md", "export.json", "SHA256SUMS"}
    assert names == {*texts, "model.keras", "model.tflite", "model-int8.tflite"}
    assert (exported_files / "labels.txt").read_text().split() == CLASSES


@pytest.mark.slow
def test_the_keras_file_loads_without_this_package_and_has_no_batch_norm(exported_files, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KERAS_READER, str(exported_files / "model.keras")],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["3", "False"], done.stderr


def _archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("_", "."), text)
    return buffer.getvalue()


METADATA = {"model": "m", "step": 1, "label_names": ["a", "b"], "resolution": 32, "eval_crop_padding": 5}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it holds no labels"),
        (b"no archive", "it holds no labels"),
        (_archive(labels_txt="a\n"), "it has no classifier.json"),
        (_archive(classifier_json="["), "it has no classifier.json"),
        (_archive(classifier_json=json.dumps({**METADATA, "more": 1})), "it has no classifier.json"),
        (_archive(classifier_json=json.dumps({**METADATA, "resolution": 10**9})), "numbers out of range"),
        (_archive(classifier_json=json.dumps({**METADATA, "label_names": []})), "no names of classes"),
        (_archive(classifier_json=json.dumps({**METADATA, "background": "x"})), "another value than a flag"),
        (_archive(classifier_json=json.dumps({**METADATA, "interpolation": "model"})), "has interpolation=model"),
        (_archive(classifier_json=json.dumps(METADATA)), "cannot be loaded"),
    ],
)
@pytest.mark.parametrize("suffix", ["keras", "tflite"])
def test_a_foreign_or_damaged_file(tf, tmp_path, content, reason, suffix):
    from efficientnet_tpu.exporting import formats

    path = tmp_path / f"model.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"--saved_model={path}: .*{reason}"):
        formats.load_exported(str(path))


def _keras_with(class_name, module):
    layer = {"module": module, "class_name": class_name, "config": {"function": "4wEAAAA="}}
    model = {"module": "keras", "class_name": "Functional", "config": {"layers": [layer]}}
    return _archive(config_json=json.dumps(model))


def _tflite_with(operation):
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model, code, graph = schema.ModelT(), schema.OperatorCodeT(), schema.SubGraphT()
    code.customCode, code.builtinCode = operation, schema.BuiltinOperator.CUSTOM
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.mark.parametrize(
    ("suffix", "make", "named"),
    [
        ("keras", lambda: _keras_with("Lambda", "keras.layers"), "the class 'keras.layers.Lambda'"),
        ("keras", lambda: _keras_with("StringLookup", "keras.layers"), "the class 'keras.layers.StringLookup'"),
        ("keras", lambda: _keras_with("Dense", "os"), "the class 'os.Dense'"),
        ("tflite", lambda: _tflite_with("FlexWriteFile"), "the operation b'FlexWriteFile'"),
    ],
)
def test_a_keras_or_tflite_file_with_code_is_refused(tf, tmp_path, suffix, make, named):
    from efficientnet_tpu.exporting import digest, formats
    from efficientnet_tpu.exporting.metadata import DIGEST_PROPERTY, ExportMetadata, with_texts

    texts = ExportMetadata("m", 1, ("a", "b"), 32, 5, digest=DIGEST_PROPERTY).as_texts()
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(digest.sealed(with_texts(make(), texts)))
    with pytest.raises(UserError, match=f"--saved_model={path}: it has {named}.* add --trust"):
        formats.load_exported(str(path))


def test_a_file_that_is_not_there(tf, tmp_path):
    from efficientnet_tpu.exporting import formats

    with pytest.raises(UserError, match=f"--saved_model={tmp_path}/x.onnx: there is no such file"):
        formats.load_exported(f"{tmp_path}/x.onnx")


@pytest.mark.slow
def test_the_lines_of_the_readme_classify_as_predict_does(trained, exported_files, files, tmp_path):
    """Of every format, two of which are added to an export that is there."""
    _require_onnx()
    from efficientnet_tpu import cli
    from efficientnet_tpu.exporting import formats

    out = tmp_path / "out"
    shutil.copytree(exported_files, out)
    for added in ("savedmodel", "onnx"):
        cli.main(["main.py", "export", f"--model_dir={trained}", f"--output_dir={out}", f"--export_format={added}"])
    assert subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True, check=False).returncode == 0
    assert json.loads((out / "export.json").read_text())["formats"] == [
        "keras", "tflite", "tflite-int8", "savedmodel", "onnx",
    ]  # fmt: skip
    text = (out / "README.md").read_text()
    padded = int(re.search(r"side = min\(picture.size\) \* \d+ // (\d+)", text)[1])
    pictures = []
    for number, path in enumerate(files):  # of the size whose crop is not resized: Pillow's resize is another
        pictures.append(tmp_path / f"{number}.png")
        Image.open(path).convert("RGB").resize((padded, padded)).save(pictures[-1])
    blocks = re.findall("```python\n(.*?)```", text, re.DOTALL)
    for block, file in zip(blocks, ("", "model.keras", "model.tflite", "model-int8.tflite", "model.onnx"), strict=True):
        exported = formats.load_exported(str(out / file))
        answers = exported.probabilities([path.read_bytes() for path in pictures]).numpy()
        for path, answer in zip(pictures, answers, strict=True):
            lines = block.replace("photo.jpg", str(path))
            done = subprocess.run([sys.executable, "-c", lines], cwd=out, capture_output=True, text=True, check=True)
            name, probability = done.stdout.split()
            assert (name, float(probability)) == (CLASSES[answer.argmax()], pytest.approx(answer.max(), abs=1e-4))
    with pytest.raises(UserError, match=f"--output_dir={out}: holds onnx already"):
        cli.main(["main.py", "export", f"--model_dir={trained}", f"--output_dir={out}", "--export_format=onnx"])


@pytest.mark.slow
def test_another_checkpoints_formats_are_not_added(trained, exported_files, tmp_path):
    from efficientnet_tpu import cli

    out = tmp_path / "out"
    shutil.copytree(exported_files, out)
    record = json.loads((out / "export.json").read_text())
    (out / "export.json").write_text(json.dumps(record | {"weights": "0" * 64, "step": 7}))
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UserError, match="is an export of other weights, efficientnet-nano at step 7, where this is"):
        cli.main(["main.py", "export", f"--model_dir={trained}", f"--output_dir={out}"])
    assert {path: path.read_bytes() for path in out.iterdir()} == before
