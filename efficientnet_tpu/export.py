"""Writes a trained model for use without this package: averaged weights, preprocessing inside, with its labels.

Every exported model is read back in its own runtime and compared with the run on images. What differs is removed.
"""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.class_names import labels_text
from efficientnet_tpu.data.split import LABELS_TXT
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import formats, parity
from efficientnet_tpu.exporting.classifier import Serving, in_batches, load_serving
from efficientnet_tpu.exporting.digest import SHA256SUMS, write_sums
from efficientnet_tpu.exporting.export_folder import EXPORT_JSON, ExportRecord, export_place, read_record, require_room
from efficientnet_tpu.exporting.export_readme import README, readme_text
from efficientnet_tpu.exporting.formats import FORMATS
from efficientnet_tpu.exporting.inference_model import inference_model
from efficientnet_tpu.exporting.parity import Parity
from efficientnet_tpu.exporting.sample_images import Samples, sample_images
from efficientnet_tpu.exporting.saved_model import GRAPH
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.literal_path import require_literal
from efficientnet_tpu.storage.new_directory import added_to_directory, new_directory

# Points of accuracy. A greater loss is reported with what would lose less.
_NOTABLE_LOSS = 1.0


@dataclass(frozen=True)
class ExportedFormat:
    """One format of the export. `rejected_because` gives the reason for which it was removed again, or is empty."""

    name: str
    megabytes: float
    parity: Parity
    rejected_because: str = ""


def export_run(config: Config) -> None:
    """`main.py export`: writes --output_dir in the formats asked for."""
    output_dir = export_place(config.output.output_dir, config.output.versioned)
    require_literal(output_dir, f"--output_dir={output_dir}")
    names = list(dict.fromkeys(config.output.export_format.split(",")))
    require_room(output_dir, names)
    formats.check_formats(names)
    before = read_record(output_dir)
    with _place(output_dir, before) as directory:
        serving = load_serving(config)
        record = ExportRecord(serving.model.name, serving.step, serving.weights_digest(), ())
        if before:
            _require_same(before, record, output_dir)
        quantized = any(FORMATS[name].quantized for name in names)
        samples = sample_images(config, serving.label_names, representative=quantized)
        exported = export_formats(serving, names, samples, directory, config.output.max_accuracy_drop)
        said = report(serving, samples, exported, output_dir)
        rejected = [f"{form.name}: {form.rejected_because}" for form in exported if form.rejected_because]
        if len(rejected) == len(exported):
            print(said)
            raise UserError(f"refused: {'; '.join(rejected)}; nothing was written to {output_dir}")
        there = [*(before.formats if before else ()), *(one.name for one in exported if not one.rejected_because)]
        write_atomically(f"{directory}/{LABELS_TXT}", labels_text(serving.label_names))
        write_atomically(f"{directory}/{README}", readme_text(serving.metadata, there))
        write_atomically(f"{directory}/{EXPORT_JSON}", dataclasses.replace(record, formats=tuple(there)).as_text())
        write_sums(directory, output_dir if before else "")  # last, of all that lies there
    print(said)
    if rejected:
        raise UserError(f"refused: {'; '.join(rejected)}; the others are in {output_dir}")


def _place(output_dir: str, before: ExportRecord | None) -> contextlib.AbstractContextManager[str]:
    """Gives the directory to write into. What it holds is in `output_dir` when the context ends."""
    if before:
        return added_to_directory(output_dir, "output_dir", "export", last=(SHA256SUMS, GRAPH))
    return new_directory(output_dir, "output_dir", "export")


def _require_same(before: ExportRecord, now: ExportRecord, output_dir: str) -> None:
    """Raises UserError unless an export has the weights that are to be exported."""
    if before.weights != now.weights:
        raise UserError(
            f"--output_dir={output_dir}: is an export of other weights, {before.model} at step {before.step:,}, where "
            f"this is {now.model} at step {now.step:,}. Choose a new directory."
        )


def export_formats(
    serving: Serving, names: Sequence[str], samples: Samples, directory: str, max_accuracy_drop: float
) -> list[ExportedFormat]:
    """Writes each format into the directory, loads it, compares it with the run, and removes it if it is rejected."""
    model = inference_model(serving.model)
    prepare = tf.function(serving.prepare, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)

    def prepared(encoded: Sequence[bytes]) -> np.ndarray:
        return in_batches(lambda batch: prepare(tf.constant(batch)).numpy(), encoded, parity.BATCH)

    images = prepared(samples.encoded)
    expected = in_batches(
        tf.function(serving.probabilities, reduce_retracing=True, autograph=False), images, parity.BATCH
    )
    representative = prepared(samples.representative) if samples.representative else images[:0]
    exported = []
    for name in names:
        formats.write(name, model, serving, representative, directory)
        written = formats.load_written(name, directory)
        compared = parity.compare(
            written.probabilities, images, expected, samples.labels, written.images_per_call or parity.BATCH
        )
        reason = parity.rejection_reason(compared, FORMATS[name].quantized, max_accuracy_drop)
        reason = reason or parity.batch_problem(written.probabilities, images, FORMATS[name].quantized)
        if written.classifier.label_names != serving.label_names or written.metadata not in (None, serving.metadata):
            reason = "its labels or its preprocessing are not the run's"
        if not reason and written.metadata is None:  # it prepares image files itself, so these are compared too
            of_files = in_batches(written.classifier.probabilities, samples.encoded, parity.BATCH)
            difference = parity.largest_difference(of_files, expected)
            if not difference <= parity.TOLERANCE:  # written so that NaN is refused too
                reason = f"its probabilities of image files differ from the run's by {difference:.2g}"
        paths = formats.written_paths(name, directory)
        exported.append(ExportedFormat(name, sum(map(_megabytes, paths)), compared, reason))
        for path in paths if reason else ():
            tf.io.gfile.rmtree(path) if tf.io.gfile.isdir(path) else tf.io.gfile.remove(path)
    return exported


def report(serving: Serving, samples: Samples, exported: Sequence[ExportedFormat], output_dir: str) -> str:
    """Returns the lines that are printed."""
    lines = [
        f"{output_dir}: {serving.model.name} at step {serving.step}, averaged weights, batch norm folded, "
        f"{len(serving.label_names)} classes, {serving.resolution} px",
        *filter(None, [serving.note]),
        f"compared with the run on {samples.source}",
    ]
    run_accuracy = exported[0].parity.run_accuracy
    accuracy = "" if run_accuracy is None else f"accuracy (run {run_accuracy:.1%})"
    width = len(accuracy)
    lines.append(
        f"{'format':<12} {'MB':>7} {'max |difference|':>17} {'same top-1':>11} {accuracy:>{width}} {'ms, 1 image':>12}"
    )
    for form in exported:
        found = form.parity
        accuracy = "" if found.accuracy is None else f"{found.accuracy:.1%}"
        lines.append(
            f"{form.name:<12} {form.megabytes:>7.1f} {found.largest_difference:>17.1g} {found.agreement:>11.1%} "
            f"{accuracy:>{width}} {found.latency_ms:>12.1f}" + ("  refused" if form.rejected_because else "")
        )
    for form in exported:
        if FORMATS[form.name].quantized:
            lines += [f"{form.name}: {line}" for line in quantization_notes(serving, form.parity, len(samples.encoded))]
    return "\n".join(line.rstrip() for line in lines)


def quantization_notes(serving: Serving, found: Parity, count: int) -> list[str]:
    """Says what 8-bit integers cost, and which models lose less, if one with swish and squeeze-and-excitation has lost
    much. count: images compared.
    """
    if found.accuracy is None or found.run_accuracy is None:
        notes = [f"without labelled images only agreement is known, {found.sure_agreement:.1%} where the run is sure"]
    else:
        notes = [
            f"top-1 {found.accuracy:.1%} instead of {found.run_accuracy:.1%} on {count:,} labelled images, "
            f"{found.lost_points:.1f} points lost"
        ]
    has_excitation = any(layer.name.endswith("_se_excite") for layer in serving.model.layers)
    if not found.lost_points < _NOTABLE_LOSS and has_excitation:
        notes.append(
            "swish and squeeze-and-excitation have ranges that 8 bits resolve badly. The Lite models do without both, "
            "--model=efficientnet-lite0 to lite4, and lose about one point (published, in float32 and int8: "
            "Lite0 75.1 and 74.4 %, Lite4 81.5 and 80.2 %)."
        )
    return notes


def _megabytes(path: str) -> float:
    """Returns the size of a file, or of all files below a directory."""
    if not tf.io.gfile.isdir(path):
        return tf.io.gfile.stat(path).length / 1e6
    files = (os.path.join(folder, name) for folder, _, names in tf.io.gfile.walk(path) for name in names)
    return sum(tf.io.gfile.stat(file).length for file in files) / 1e6
