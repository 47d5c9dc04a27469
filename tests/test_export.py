"""What `export` writes: that each artefact answers in its own runtime as the run does, and what is refused."""

import base64
import dataclasses
import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from efficientnet_tpu.config import EXPORT_FORMATS, UserError, with_options

CLASSES = ["circle", "square", "triangle"]
READER = """
import json, sys
import tensorflow as tf

directory, *paths = sys.argv[1:]
signatures = tf.saved_model.load(directory).signatures
answers = signatures["serving_default"](image_bytes=tf.constant([open(path, "rb").read() for path in paths]))
answers = {name: value.numpy().tolist() for name, value in answers.items()}
answers["class_names"] = [[name.decode() for name in row] for row in answers["class_names"]]
labels = signatures["label_names"]()["label_names"].numpy().tolist()
assert not any(name.startswith("efficientnet") for name in sys.modules)
print(json.dumps({"labels": [label.decode() for label in labels], **answers}))
"""
KERAS_READER = """
import sys
import keras

model = keras.models.load_model(sys.argv[1])
assert not any(name.startswith("efficientnet") for name in sys.modules)
print(model.output_shape[-1], any("norm" in type(layer).__name__.lower() and layer.count_params() > 9
      for layer in model.layers))
"""


def _config(model_dir, **options):
    from efficientnet_tpu import run_record

    return with_options(run_record.load(str(model_dir)).config, {"model_dir": str(model_dir), **options})


def _require_onnx():
    for module in ("onnx", "onnxruntime"):
        pytest.importorskip(module, reason="comes with the extra onnx")


@pytest.fixture(scope="module")
def files(shapes):
    """Paths of a PNG and a JPEG file of every class."""
    return [shapes / "validation" / name / file for name in CLASSES for file in ("00.png", "01.jpg")]


@pytest.fixture(scope="module")
def expected(trained, files):
    """float32 [files, classes]: what the run itself says of them."""
    from efficientnet_tpu import classifier

    return classifier.load_run(_config(trained)).probabilities([path.read_bytes() for path in files]).numpy()


@pytest.fixture(scope="module")
def artefacts(trained, tmp_path_factory):
    """--output_dir with every format but ONNX, which needs an extra. 8-bit integers may lose anything."""
    from efficientnet_tpu import cli

    output_dir = tmp_path_factory.mktemp("artefacts") / "out"
    cli.main([
        "main.py", "export", f"--model_dir={trained}", f"--output_dir={output_dir}",
        "--export_format=keras,tflite,tflite-int8", "--max_accuracy_drop=100",
    ])  # fmt: skip
    return output_dir


def test_a_program_with_tensorflow_alone_gets_the_same_answers(exported, files, expected, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", READER, str(exported), *map(str, files)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "custom gradients" not in done.stderr
    answers = json.loads(done.stdout)
    assert answers["labels"] == CLASSES
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-5)
    order = np.argsort(-expected, axis=1)
    assert answers["class_ids"] == order.tolist()
    assert answers["class_names"] == [[CLASSES[index] for index in row] for row in order]
    assert expected.max() > 0.5  # the answers are no coin tosses
    assert len(set(order[:, 0])) > 1


def test_signatures(tf, exported):
    signatures = tf.saved_model.load(str(exported)).signatures
    assert set(signatures) == {"serving_default", "images", "label_names"}
    inputs = {
        name: {
            key: (tuple(spec.shape), spec.dtype.name) for key, spec in signature.structured_input_signature[1].items()
        }
        for name, signature in signatures.items()
    }
    assert inputs == {
        "serving_default": {"image_bytes": ((None,), "string")},
        "images": {"images": ((None, 32, 32, 3), "uint8")},
        "label_names": {},
    }


def _serve_rest(tf, directory, body):
    """What TensorFlow Serving does with a request in row form: JSON -> the one input of serving_default -> JSON."""
    signature = tf.saved_model.load(directory).signatures["serving_default"]
    [(name, spec)] = signature.structured_input_signature[1].items()
    instances = [base64.b64decode(instance["b64"]) for instance in json.loads(body)["instances"]]
    outputs = {key: value.numpy() for key, value in signature(**{name: tf.constant(instances, spec.dtype)}).items()}
    assert {len(value) for value in outputs.values()} == {len(instances)}  # else it answers in columns
    as_json = {key: value.astype(str) if value.dtype == object else value for key, value in outputs.items()}
    rows = [{key: value[row].tolist() for key, value in as_json.items()} for row in range(len(instances))]
    return json.loads(json.dumps({"predictions": rows}))


def test_a_rest_request_as_tensorflow_serving_takes_it(tf, exported, files, expected):
    encoded = [{"b64": base64.b64encode(path.read_bytes()).decode()} for path in files]
    answer = _serve_rest(tf, str(exported), json.dumps({"instances": encoded}))
    for row, probabilities in zip(answer["predictions"], expected, strict=True):
        assert row["class_names"][0] == CLASSES[probabilities.argmax()]
        assert row["probabilities"] == pytest.approx(probabilities, abs=1e-5)


def test_weights_are_constants_of_the_graph(tf, exported):
    # TensorFlow rearranges what cannot change once, and not in every call.
    loaded = tf.saved_model.load(str(exported))
    assert not loaded.signatures["images"].captured_inputs
    assert not any("variables.data" in path.name and path.stat().st_size > 2000 for path in exported.rglob("*"))


def test_pixels_in_are_files_in_after_preprocessing(tf, exported, files, expected):
    from efficientnet_tpu.data.preprocessing import eval_images

    images = eval_images(tf.constant([path.read_bytes() for path in files]), 32, 5)
    loaded = tf.saved_model.load(str(exported))
    np.testing.assert_allclose(loaded.signatures["images"](images=images)["probabilities"], expected, atol=1e-5)


def test_load_saved_model_gives_the_runs_answers(exported, files, expected):
    from efficientnet_tpu import classifier

    loaded = classifier.load_saved_model(str(exported))
    assert list(loaded.label_names) == CLASSES
    np.testing.assert_allclose(loaded.probabilities([path.read_bytes() for path in files]), expected, atol=1e-5)


def test_probabilities_sum_to_one(expected):
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("file", "tolerance"), [("model.keras", 1e-5), ("model.tflite", 1e-5)])
def test_files_give_the_runs_answers(artefacts, files, expected, file, tolerance):
    from efficientnet_tpu.exporting import formats

    loaded = formats.load_exported(str(artefacts / file))
    assert list(loaded.label_names) == CLASSES
    found = loaded.probabilities([path.read_bytes() for path in files])
    np.testing.assert_allclose(found, expected, atol=tolerance)


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


def test_8_bit_integers_in_and_out_and_of_the_same_opinion(tf, artefacts, files, expected):
    from efficientnet_tpu.exporting import formats, tflite

    interpreter = tflite._interpreter((artefacts / "model-int8.tflite").read_bytes())
    [given], [wanted] = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == wanted["dtype"] == np.uint8
    assert given["quantization"][0] == pytest.approx(1, abs=0.01)  # pixels as they are
    assert given["quantization"][1] == 0
    loaded = formats.load_exported(str(artefacts / "model-int8.tflite"))
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


@pytest.mark.parametrize("file", ["model.tflite", "model-int8.tflite"])
def test_metadata_as_mediapipe_reads_them(artefacts, file):
    """That MediaPipe does, and names the classes, has been seen; here its schema is followed by hand."""
    from flatbuffers.table import Table
    from tensorflow.lite.python import schema_py_generated as schema

    content = (artefacts / file).read_bytes()
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
    [colours] = _fields(Table(buffer, given.Indirect(properties)), 0)
    assert buffer[colours] == 1  # RGB
    labels = _only(wanted, 6)
    label_file, axis = _fields(labels, 0, 2)
    assert labels.String(label_file) == b"labels.txt"
    assert buffer[axis] == 2  # TENSOR_AXIS_LABELS


@pytest.mark.parametrize("file", ["model.tflite", "model-int8.tflite"])
def test_resized_to_a_batch_it_answers_the_same(tf, artefacts, files, file):
    from efficientnet_tpu.data.preprocessing import eval_images
    from efficientnet_tpu.exporting import tflite

    images = eval_images(tf.constant([path.read_bytes() for path in files]), 32, 5).numpy()
    content = (artefacts / file).read_bytes()
    expected = tflite.load(content, "x").probabilities(images)
    interpreter = tflite._interpreter(content)
    [given], [wanted] = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], images)
    interpreter.invoke()
    found = np.float32(interpreter.get_tensor(wanted["index"]))
    if wanted["dtype"] == np.uint8:
        found /= 256
    np.testing.assert_allclose(found, expected, atol=1e-5 if wanted["dtype"] == np.float32 else 1 / 256 + 1e-6)


@pytest.mark.parametrize("file", ["model.keras", "model.tflite", "model-int8.tflite"])
def test_labels_can_be_unzipped_from_files(artefacts, file):
    with zipfile.ZipFile(artefacts / file) as archive:
        assert archive.read("labels.txt").decode().split() == CLASSES
        card = json.loads(archive.read("classifier.json"))
    assert (card["resolution"], card["eval_crop_padding"], card["label_names"]) == (32, 5, CLASSES)


def test_labels_lie_beside_the_files(artefacts):
    names = {path.name for path in artefacts.iterdir()}
    assert names == {"labels.txt", "model.keras", "model.tflite", "model-int8.tflite"}
    assert (artefacts / "labels.txt").read_text().split() == CLASSES


def test_the_keras_file_loads_without_this_package_and_has_no_batch_norm(artefacts, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KERAS_READER, str(artefacts / "model.keras")],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["3", "False"], done.stderr


def test_the_report_names_images_accuracy_size_and_time(trained, tmp_path, capsys):
    from efficientnet_tpu import cli

    out = tmp_path / "out"
    cli.main(["main.py", "export", f"--model_dir={trained}", f"--output_dir={out}", "--export_images=12"])
    lines = capsys.readouterr().out.splitlines()
    assert "12 validation images of --data_dir=" in lines[1]
    assert lines[2].split()[:2] == ["format", "MB"]
    assert "accuracy (run " in lines[2]
    name, megabytes, difference, same, accuracy, milliseconds = lines[3].split()
    assert (name, same) == ("savedmodel", "100.0%")
    assert float(difference) < 1e-5
    assert float(megabytes) > 0.05
    assert float(milliseconds) > 0
    assert accuracy in lines[2]  # the run's


def test_without_the_runs_images_made_up_ones_are_used_and_that_is_said(trained, tmp_path, monkeypatch):
    from efficientnet_tpu.exporting import sample_images

    def missing(config):
        raise UserError("--data_dir=/gone: no such directory")

    monkeypatch.setattr(sample_images, "open_data", missing)
    samples = sample_images.sample_images(_config(trained, export_images=3), tuple(CLASSES), representative=True)
    assert samples.source == "3 made-up pictures, for lack of the run's images: --data_dir=/gone: no such directory"
    assert samples.labels is None
    assert len(samples.encoded) == 3
    assert len(samples.representative) == sample_images.NUM_REPRESENTATIVE
    assert not set(samples.encoded) & set(samples.representative)
    # Those that were asked for are another matter.
    with pytest.raises(UserError, match="/gone"):
        sample_images.sample_images(_config(trained, data_dir="/gone"), tuple(CLASSES), representative=False)


def test_made_up_pictures_have_the_spectrum_of_photographs(tf):
    from efficientnet_tpu.exporting import sample_images

    [picture] = sample_images._pictures(1)
    power = np.abs(np.fft.fft2(picture.mean(axis=2) - picture.mean())) ** 2
    # Photographs: most of the energy is in the lowest frequencies; of noise, a hundredth would be.
    assert power[:13, :13].sum() > 20 * power[20:33, 20:33].sum()
    assert picture.std() > 30


def test_labels_of_another_data_set_measure_no_accuracy(trained):
    from efficientnet_tpu.exporting import sample_images

    config = _config(trained, data_dir="", dataset="fake:5:20:10", export_images=4)
    samples = sample_images.sample_images(config, tuple(CLASSES), representative=False)
    assert samples.labels is None
    assert "whose classes are not the run's" in samples.source


def test_folding_leaves_every_kind_of_network_as_it_is(tf):
    from efficientnet_tpu.exporting.inference_model import inference_model
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.compound_scaling import architecture_of

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 32, 32, 3), np.uint8)
    config = _model_config("efficientnet-nano", depth_coefficient=0.2)
    for model_config in (config, _model_config("resnet-50", depth_coefficient=0.3), _model_config("mobilenet-v1")):
        model = build_model(architecture_of(model_config, 7))
        for weight in model.weights:
            if "norm" in weight.path or "_bn/" in weight.path:
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
        expected = tf.nn.softmax(model(images, training=False))
        twin = inference_model(model)
        np.testing.assert_allclose(twin(images, training=False), expected, atol=1e-5)
        assert expected.numpy().std() > 1e-3
        assert len(twin.layers) < len(model.layers)


def _model_config(name, **options):
    from efficientnet_tpu.config import Config

    return with_options(Config(), {"model": name, "resolution": 32, **options}).model


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_output_dir_that_exists_is_refused(trained, tmp_path, kind):
    from efficientnet_tpu import export

    output_dir = tmp_path / "out"
    output_dir.write_text("precious") if kind == "file" else output_dir.mkdir()
    with pytest.raises(UserError, match=f"--output_dir={output_dir}: exists already"):
        export.export_run(_config(trained, output_dir=f"{output_dir}/" if kind == "folder" else str(output_dir)))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_unknown_format_is_refused_at_once(tmp_path):
    from efficientnet_tpu import cli

    with pytest.raises(UserError, match=r"--export_format=savedmodel,onyx: must be of .*Did you mean onnx\?"):
        cli.main(["main.py", "export", f"--model_dir={tmp_path}", "--output_dir=x", "--export_format=savedmodel,onyx"])


def test_a_format_whose_library_is_missing_names_the_extra(trained, tmp_path, monkeypatch):
    from efficientnet_tpu import export
    from efficientnet_tpu.exporting import formats

    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnx and onnxruntime, which are not installed: pip install .*\[onnx\]"):
        export.export_run(_config(trained, output_dir=f"{tmp_path}/out", export_format="onnx"))
    assert list(tmp_path.iterdir()) == []


def test_what_differs_from_the_run_is_removed_and_the_rest_kept(trained, tmp_path, monkeypatch, capsys):
    from efficientnet_tpu import export
    from efficientnet_tpu.exporting import formats

    right = formats.keras_file.file_content

    def wrong(model, card):
        bias = model.get_layer("classifier").bias
        bias.assign(bias.numpy() + np.array([0.01, 0, 0]))
        return right(model, card)

    monkeypatch.setattr(formats.keras_file, "file_content", wrong)
    with pytest.raises(UserError, match=r"refused: keras: its probabilities differ .* by 0\.00.*the others are in"):
        export.export_run(_config(trained, output_dir=f"{tmp_path}/out", export_format="savedmodel,keras"))
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"saved_model.pb", "labels.txt"}
    assert not (tmp_path / "out" / "model.keras").exists()
    assert "refused" in capsys.readouterr().out
    with pytest.raises(UserError, match="nothing was written to"):
        export.export_run(_config(trained, output_dir=f"{tmp_path}/other", export_format="keras"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_other_labels_or_preprocessing_are_refused(trained, tmp_path, monkeypatch):
    from efficientnet_tpu import export
    from efficientnet_tpu.exporting import formats

    right = formats.card_of_serving
    names = iter([("circle", "triangle", "square")])
    monkeypatch.setattr(
        formats,
        "card_of_serving",
        lambda serving: dataclasses.replace(right(serving), label_names=next(names, serving.label_names)),
    )
    with pytest.raises(UserError, match="labels or its preprocessing are not the run's"):
        export.export_run(_config(trained, output_dir=f"{tmp_path}/out", export_format="keras"))


def _compared(**values):
    from efficientnet_tpu.exporting.comparison import Comparison

    usual = {"largest_difference": 0.3, "agreement": 0.8, "sure_agreement": 0.9, "latency_ms": 1.0}
    return Comparison(**{**usual, "accuracy": 0.7, "run_accuracy": 0.8, **values})


@pytest.mark.parametrize(
    ("values", "quantised", "fault"),
    [
        ({"largest_difference": 9e-5}, False, ""),
        ({"largest_difference": 2e-4}, False, "its probabilities differ from the run's by 0.0002, more than 0.0001"),
        ({"largest_difference": float("nan")}, False, "its probabilities differ from the run's by nan"),
        ({"accuracy": 0.76}, True, ""),
        ({"accuracy": 0.9}, True, ""),
        ({}, True, "loses 10.0 points of top-1 accuracy, more than --max_accuracy_drop=5"),
        ({"accuracy": None, "run_accuracy": None, "sure_agreement": 0.96}, True, ""),
        (
            {"accuracy": None, "run_accuracy": None},
            True,
            "disagrees with the run on 10.0 % of the images that it is sure of, more than --max_accuracy_drop=5",
        ),
        ({"accuracy": 0.8, "largest_difference": float("nan")}, True, "loses 0.0 points"),
    ],
)  # fmt: skip
def test_faults(tf, values, quantised, fault):
    from efficientnet_tpu.exporting.comparison import fault_of

    found = fault_of(_compared(**values), quantised, 5)
    assert found.startswith(fault) if fault else found == ""


def test_lite_is_advised_where_swish_loses(tf, trained):
    from efficientnet_tpu import classifier, export
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.compound_scaling import architecture_of

    serving = classifier.load_serving(_config(trained))
    advice = export._advice(serving, _compared())
    assert "--model=efficientnet-lite0" in advice
    assert "Lite0 75.1 and 74.4 %, Lite4 81.5 and 80.2 %" in advice
    lite = build_model(architecture_of(_model_config("efficientnet-lite0", width_coefficient=0.1), 3))
    assert export._advice(dataclasses.replace(serving, model=lite), _compared()) == ""
    assert export._advice(serving, _compared(accuracy=0.795)) == ""


def test_what_8_bits_cost_is_said(tf):
    from efficientnet_tpu import export

    assert export._loss(_compared(), 1200) == (
        "tflite-int8: top-1 70.0% instead of 80.0% on 1,200 labelled images, 10.0 points lost"
    )
    unlabelled = _compared(accuracy=None, run_accuracy=None)
    assert export._loss(unlabelled, 64).endswith("only agreement is known, 90.0% where the run is sure")


def test_every_format_is_written_by_something(tf):
    from efficientnet_tpu.exporting import formats

    assert {"savedmodel", *formats.FILES} == set(EXPORT_FORMATS)


def test_a_directory_without_a_saved_model(tmp_path):
    from efficientnet_tpu.exporting import formats

    with pytest.raises(UserError, match=f"--saved_model={tmp_path}: no SavedModel here. `main.py export` writes one."):
        formats.load_exported(str(tmp_path))


def test_a_foreign_saved_model(tf, tmp_path):
    from efficientnet_tpu import classifier

    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "foreign"), signatures={"serving_default": module.double})
    with pytest.raises(UserError, match=f"--saved_model={tmp_path}/foreign: was not written by `main.py export`"):
        classifier.load_saved_model(str(tmp_path / "foreign"))


def _archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("_", "."), text)
    return buffer.getvalue()


CARD = {"model": "m", "step": 1, "label_names": ["a", "b"], "resolution": 32, "eval_crop_padding": 5}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it holds no labels"),
        (b"no archive", "it holds no labels"),
        (_archive(labels_txt="a\n"), "it has no classifier.json"),
        (_archive(classifier_json="["), "it has no classifier.json"),
        (_archive(classifier_json=json.dumps({**CARD, "more": 1})), "it has no classifier.json"),
        (_archive(classifier_json=json.dumps({**CARD, "resolution": 10**9})), "numbers out of range"),
        (_archive(classifier_json=json.dumps({**CARD, "label_names": []})), "no names of classes"),
        (_archive(classifier_json=json.dumps(CARD)), "cannot load it"),
    ],
)
@pytest.mark.parametrize("suffix", ["keras", "tflite"])
def test_a_foreign_or_damaged_file(tf, tmp_path, content, reason, suffix):
    from efficientnet_tpu.exporting import formats

    path = tmp_path / f"model.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"--saved_model={path}: was not written by `main.py export`: .*{reason}"):
        formats.load_exported(str(path))


def test_a_file_that_is_not_there(tf, tmp_path):
    from efficientnet_tpu.exporting import formats

    with pytest.raises(UserError, match=f"--saved_model={tmp_path}/x.onnx: there is no such file"):
        formats.load_exported(f"{tmp_path}/x.onnx")


def test_comparison_counts_agreement_where_the_run_is_sure(tf):
    from efficientnet_tpu.exporting.comparison import compare

    expected = np.array([[0.6, 0.3, 0.1], [0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.36, 0.33, 0.31]], np.float32)
    found = np.array([[0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.35, 0.4, 0.25], [0.36, 0.33, 0.31]], np.float32)
    images = np.arange(4, dtype=np.uint8)  # stand for themselves
    compared = compare(lambda batch: found[batch], images, expected, np.array([0, 1, 0, 0]))
    assert (compared.agreement, compared.sure_agreement) == (0.5, 0.5)
    assert (compared.accuracy, compared.run_accuracy) == (0.75, 0.75)
    assert compared.largest_difference == pytest.approx(0.4)
    unsure = compare(lambda batch: found[batch + 2], images[:2], expected[2:], None)
    assert (unsure.sure_agreement, unsure.accuracy) == (0.5, None)
    assert unsure.lost_points == 50
