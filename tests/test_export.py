"""The command `export`: the images and the model it compares by, what it reports, and what it refuses."""

import dataclasses

import numpy as np
import pytest

from efficientnet_tpu.config.commands import EXPORT_FORMATS
from efficientnet_tpu.config.config import with_options
from efficientnet_tpu.errors import UserError
from tests.support.exported_run import CLASSES


def _config(model_dir, **options):
    from efficientnet_tpu.run import run_record

    return with_options(run_record.load(str(model_dir)).config, {"model_dir": str(model_dir), **options})


@pytest.mark.slow
def test_the_report_names_images_accuracy_size_and_time(trained, tmp_path, capsys):
    from efficientnet_tpu import cli

    out = tmp_path / "out"
    cli.main(["main.py", "export", f"--model_dir={trained}", f"--output_dir={out}", "--export_images=12"])
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop(1).startswith(("best checkpoint, step ", "best and last checkpoint, step "))
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

    def missing(stored, config):
        raise UserError("--data_dir=/gone: no such directory")

    monkeypatch.setattr(sample_images, "open_measured_images", missing)
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

    [picture] = sample_images.pictures(1)
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


@pytest.mark.slow
def test_folding_leaves_every_kind_of_network_as_it_is(tf):
    from efficientnet_tpu.exporting.inference_model import inference_model
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.configured import configured_architecture

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 32, 32, 3), np.uint8)
    config = _model_config("efficientnet-nano", depth_coefficient=0.2)
    for model_config in (config, _model_config("resnet-50", depth_coefficient=0.3), _model_config("mobilenet-v1")):
        model = build_model(configured_architecture(model_config, 7))
        for weight in model.weights:
            if "norm" in weight.path or "_bn/" in weight.path:
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
        expected = tf.nn.softmax(model(images, training=False))
        twin = inference_model(model)
        # The logits are large, so float32 rounding of theirs moves a probability by 1e-5; a wrong fold moves it by 0.1.
        np.testing.assert_allclose(twin(images, training=False), expected, atol=1e-4)
        assert expected.numpy().std() > 1e-3
        assert len(twin.layers) < len(model.layers)


def _model_config(name, **options):
    from efficientnet_tpu.config.config import Config

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
    with pytest.raises(UserError, match=r"needs onnx and onnxruntime, which are not installed: .*pip install .*onnx"):
        export.export_run(_config(trained, output_dir=f"{tmp_path}/out", export_format="onnx"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_differs_from_the_run_is_removed_and_the_rest_kept(trained, tmp_path, monkeypatch, capsys):
    from efficientnet_tpu import export
    from efficientnet_tpu.exporting import formats

    right = formats.keras_file.file_content

    def wrong(model, metadata):
        bias = model.get_layer("classifier").bias
        bias.assign(bias.numpy() + np.array([0.01, 0, 0]))
        return right(model, metadata)

    monkeypatch.setattr(formats.keras_file, "file_content", wrong)
    with pytest.raises(UserError, match=r"refused: keras: its probabilities differ .* by 0\.00.*the others are in"):
        export.export_run(_config(trained, output_dir=f"{tmp_path}/out", export_format="savedmodel,keras"))
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"saved_model.pb", "labels.txt"}
    assert not (tmp_path / "out" / "model.keras").exists()
    assert "refused" in capsys.readouterr().out
    with pytest.raises(UserError, match="nothing was written to"):
        export.export_run(_config(trained, output_dir=f"{tmp_path}/other", export_format="keras"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_other_labels_or_preprocessing_are_refused(trained, tmp_path, monkeypatch):
    from efficientnet_tpu import export
    from efficientnet_tpu.exporting.classifier import Serving

    right = Serving.metadata.fget
    names = iter([("circle", "triangle", "square")])  # for the file that is written
    monkeypatch.setattr(
        Serving,
        "metadata",
        property(lambda serving: dataclasses.replace(right(serving), label_names=next(names, serving.label_names))),
    )
    with pytest.raises(UserError, match="labels or its preprocessing are not the run's"):
        export.export_run(_config(trained, output_dir=f"{tmp_path}/out", export_format="keras"))


def _compared(**values):
    from efficientnet_tpu.exporting.parity import Parity

    usual = {"largest_difference": 0.3, "agreement": 0.8, "sure_agreement": 0.9, "latency_ms": 1.0}
    return Parity(**{**usual, "accuracy": 0.7, "run_accuracy": 0.8, **values})


@pytest.mark.parametrize(
    ("values", "quantized", "reason"),
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
def test_what_is_rejected(tf, values, quantized, reason):
    from efficientnet_tpu.exporting.parity import rejection_reason

    found = rejection_reason(_compared(**values), quantized, 5)
    assert found.startswith(reason) if reason else found == ""


def test_lite_is_advised_where_swish_loses(tf, trained):
    from efficientnet_tpu import export
    from efficientnet_tpu.exporting import classifier
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.configured import configured_architecture

    serving = classifier.load_serving(_config(trained))
    _, advice = export.quantization_notes(serving, _compared(), 64)
    assert "--model=efficientnet-lite0" in advice
    assert "Lite0 75.1 and 74.4 %, Lite4 81.5 and 80.2 %" in advice
    lite = build_model(configured_architecture(_model_config("efficientnet-lite0", width_coefficient=0.1), 3))
    assert len(export.quantization_notes(dataclasses.replace(serving, model=lite), _compared(), 64)) == 1
    assert len(export.quantization_notes(serving, _compared(accuracy=0.795), 64)) == 1


def test_what_8_bits_cost_is_said(tf, trained):
    from efficientnet_tpu import export
    from efficientnet_tpu.exporting import classifier

    serving = classifier.load_serving(_config(trained))
    words = export.quantization_notes(serving, _compared(), 1200)[0]
    assert all(figure in words for figure in ("70.0%", "80.0%", "1,200", "10.0 points"))
    words = export.quantization_notes(serving, _compared(accuracy=None, run_accuracy=None), 64)[0]
    assert "only agreement is known, 90.0% where the run is sure" in words


def test_every_name_of_a_format_has_a_row_and_every_row_a_name(tf):
    from efficientnet_tpu.exporting.formats import FORMATS

    assert tuple(FORMATS) == EXPORT_FORMATS


@pytest.mark.slow
def test_a_second_format_in_a_directory_is_a_row(tf, trained, tmp_path, monkeypatch, shapes):
    from efficientnet_tpu import export
    from efficientnet_tpu.exporting import formats
    from efficientnet_tpu.exporting.classifier import make_classifier, prepared_by_tensorflow

    answers = []

    def write(model, serving, representative, directory):
        answers.append(prepared_by_tensorflow(serving.metadata, lambda images: model(images).numpy()))
        (tmp_path / directory / "weights").mkdir()
        (tmp_path / directory / "graph.json").write_text("{}")

    row = formats.Format(write, lambda directory, trust: answers[0], ("graph.json", "weights"))
    monkeypatch.setitem(formats.FORMATS, "other", row)
    config = _config(trained, output_dir=f"{tmp_path}/out")
    output = dataclasses.replace(config.output, export_format="other")
    export.export_run(dataclasses.replace(config, output=output))
    texts = {"labels.txt", "README.md", "export.json", "SHA256SUMS"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"graph.json", "weights", *texts}
    files = [path.read_bytes() for path in sorted(shapes.glob("validation/*/00.png"))]
    found = formats.load_exported(f"{tmp_path}/out").probabilities(files)
    expected = make_classifier(export.load_serving(config)).probabilities(files)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_comparison_counts_agreement_where_the_run_is_sure(tf):
    from efficientnet_tpu.exporting.parity import compare

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


@pytest.mark.parametrize(
    ("probabilities", "problem"),
    [
        (lambda batch: np.float32(batch) / 10, ""),
        (lambda batch: np.float32(batch)[::-1] / 10, "its probabilities of 2 images in one call differ from those one"),
        (lambda batch: np.float32(batch[:1]) / 10, "it answers 2 images in one call by an array [1, 1]"),
        (lambda batch: np.float32(batch[[0, 1, 1][: len(batch)]]) / 10, "its probabilities of 3 images in one call"),
        (lambda batch: np.reshape(batch, (1, 1)), "it does not take 2 images in one call: cannot reshape"),
    ],
)
def test_other_batches_are_tried(tf, probabilities, problem):
    from efficientnet_tpu.exporting.parity import batch_problem

    images = np.array([[0], [5], [9]], np.uint8)  # stand for themselves
    for quantized in (False, True):
        found = batch_problem(probabilities, images, quantized)
        assert found.startswith(problem) if problem else found == ""
    assert batch_problem(np.float32, images[:1], False) == ""  # of one sample
