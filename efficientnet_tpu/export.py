"""Writing a trained model for use without this package: averaged weights, preprocessing inside, labels with it.

Every artefact is read back in its own runtime and compared with the run on images; what differs is not left behind.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import formats, parity
from efficientnet_tpu.exporting.classifier import Serving, load_saved_model, load_serving
from efficientnet_tpu.exporting.inference_model import inference_model
from efficientnet_tpu.exporting.metadata import LABELS_TXT
from efficientnet_tpu.exporting.parity import Comparison
from efficientnet_tpu.exporting.sample_images import Samples, sample_images
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.new_directory import check_absent, new_directory

SAVED_MODEL, INT8 = "savedmodel", "tflite-int8"
# Points of accuracy from which on it is said what would lose fewer.
_NOTABLE_LOSS = 1.0


@dataclass(frozen=True)
class Artefact:
    """One format of the export; `fault` says why it was removed again."""

    name: str
    megabytes: float
    compared: Comparison
    fault: str = ""


def export_run(config: Config) -> None:
    """`main.py export`: writes --output_dir in the formats asked for."""
    output_dir = config.output.output_dir.rstrip("/")
    names = list(dict.fromkeys(config.output.export_format.split(",")))
    check_absent(output_dir, "output_dir")
    formats.check_formats(names)
    with new_directory(output_dir, "output_dir") as directory:
        serving = load_serving(config)
        samples = sample_images(config, serving.label_names, representative=INT8 in names)
        artefacts = export_formats(serving, names, samples, directory, config.output.max_accuracy_drop)
        print(report(serving, samples, artefacts, output_dir))
        refused = "; ".join(f"{artefact.name}: {artefact.fault}" for artefact in artefacts if artefact.fault)
        if all(artefact.fault for artefact in artefacts):
            raise UserError(f"refused: {refused}; nothing was written to {output_dir}")
        write_atomically(f"{directory}/{LABELS_TXT}", "".join(f"{name}\n" for name in serving.label_names))
    if refused:
        raise UserError(f"refused: {refused}; the others are in {output_dir}")


def export_formats(
    serving: Serving, names: Sequence[str], samples: Samples, directory: str, max_accuracy_drop: float
) -> list[Artefact]:
    """Writes each format into the directory, reads it, compares, and removes it where it is not what it should be."""
    model = inference_model(serving.model)
    prepare = tf.function(serving.prepare, input_signature=[tf.TensorSpec([None], tf.string)])
    images = parity.in_batches(lambda encoded: prepare(tf.constant(encoded)).numpy(), samples.encoded)
    expected = parity.in_batches(tf.function(serving.probabilities, reduce_retracing=True), images)
    representative = images[:0]
    if samples.representative:
        representative = parity.in_batches(
            lambda encoded: prepare(tf.constant(encoded)).numpy(), samples.representative
        )
    artefacts = []
    for name in names:
        formats.write(name, model, serving, representative, directory)
        written = formats.load_pixel_model(name, directory, serving)
        compared = parity.compare(written.probabilities, images, expected, samples.labels)
        fault = parity.fault_of(compared, name == INT8, max_accuracy_drop)
        if written.card != formats.card_of_serving(serving):
            fault = "its labels or its preprocessing are not the run's"
        elif name == SAVED_MODEL and not fault:
            fault = _fault_with_files(directory, samples.encoded, expected)
        paths = [path for path in formats.paths_of(name, directory) if tf.io.gfile.exists(path)]
        artefacts.append(Artefact(name, sum(map(_megabytes, paths)), compared, fault))
        for path in paths if fault else ():
            tf.io.gfile.rmtree(path) if tf.io.gfile.isdir(path) else tf.io.gfile.remove(path)
    return artefacts


def report(serving: Serving, samples: Samples, artefacts: Sequence[Artefact], output_dir: str) -> str:
    """The lines that are printed."""
    lines = [
        f"{output_dir}: {serving.model.name} at step {serving.step}, averaged weights, batch norm folded, "
        f"{len(serving.label_names)} classes, {serving.resolution} px",
        f"compared with the run on {samples.source}",
    ]
    run_accuracy = artefacts[0].compared.run_accuracy
    accuracy = "" if run_accuracy is None else f"accuracy (run {run_accuracy:.1%})"
    width = len(accuracy)
    lines.append(
        f"{'format':<12} {'MB':>7} {'max |difference|':>17} {'same top-1':>11} {accuracy:>{width}} {'ms, 1 image':>12}"
    )
    for artefact in artefacts:
        of = artefact.compared
        accuracy = "" if of.accuracy is None else f"{of.accuracy:.1%}"
        lines.append(
            f"{artefact.name:<12} {artefact.megabytes:>7.1f} {of.largest_difference:>17.1g} {of.agreement:>11.1%} "
            f"{accuracy:>{width}} {of.latency_ms:>12.1f}" + ("  refused" if artefact.fault else "")
        )
    for artefact in artefacts:
        if artefact.name == INT8:
            lines += [_loss(artefact.compared, len(samples.encoded)), _advice(serving, artefact.compared)]
    return "\n".join(line.rstrip() for line in lines if line)


def _loss(compared: Comparison, count: int) -> str:
    """What 8-bit integers cost."""
    if compared.accuracy is None or compared.run_accuracy is None:
        agreement = f"{compared.sure_agreement:.1%}"
        return f"tflite-int8: without labelled images only agreement is known, {agreement} where the run is sure"
    return (
        f"tflite-int8: top-1 {compared.accuracy:.1%} instead of {compared.run_accuracy:.1%} on {count:,} labelled "
        f"images, {compared.lost_points:.1f} points lost"
    )


def _advice(serving: Serving, compared: Comparison) -> str:
    """What would lose less, where a model that has swish and squeeze-and-excitation does lose."""
    by_nature = any(layer.name.endswith("_se_excite") for layer in serving.model.layers)
    if compared.lost_points < _NOTABLE_LOSS or not by_nature:
        return ""
    return (
        "tflite-int8: swish and squeeze-and-excitation have ranges that 8 bits resolve badly. The Lite models do "
        "without both, --model=efficientnet-lite0 to lite4, and lose about one point (published, in float32 and int8: "
        "Lite0 75.1 and 74.4 %, Lite4 81.5 and 80.2 %)."
    )


def _fault_with_files(directory: str, encoded: Sequence[bytes], expected: np.ndarray) -> str:
    """Of the signature that takes files."""
    found = parity.in_batches(load_saved_model(directory).probabilities, encoded)
    difference = parity.largest_difference(found, expected)
    if difference <= parity.TOLERANCE:
        return ""
    return f"its probabilities of image files differ from the run's by {difference:.2g}"


def _megabytes(path: str) -> float:
    """Of a file, or of all below a directory."""
    if not tf.io.gfile.isdir(path):
        return tf.io.gfile.stat(path).length / 1e6
    files = (os.path.join(folder, name) for folder, _, names in tf.io.gfile.walk(path) for name in names)
    return sum(tf.io.gfile.stat(file).length for file in files) / 1e6
