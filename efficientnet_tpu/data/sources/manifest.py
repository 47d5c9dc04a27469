"""A manifest: a CSV or JSON Lines file that lists image files with their labels, wherever the files are.

The columns (keys) are path, label and, if the file decides, split: train, validation or test. Paths are absolute, gs://
too, or relative to the manifest. Labels are sorted by name, as numbers when all are.
"""

from efficientnet_tpu.data.sources import listed_rows
from efficientnet_tpu.data.sources.labelled_files import LabelledFiles, left_out_line, sorted_names
from efficientnet_tpu.data.sources.listed_paths import ListedPaths, manifest_folder, without_refused
from efficientnet_tpu.data.sources.listed_rows import EXTENSIONS, Row
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.texts.printable import shown


def is_manifest(data_dir: str) -> bool:
    """Tells by the name whether it is a manifest."""
    return data_dir.lower().endswith(EXTENSIONS)


def read(
    manifest: str, validation_percent: int | None, minival_percent: float = 0, hold_out_by: str = "class"
) -> LabelledFiles:
    """Reads the images that the file lists. Without a split column, holds out `validation_percent` of them.

    Raises UserError, naming the line, for what cannot be understood. It does not check whether the images exist.
    """
    named = f"--data_dir={manifest}"
    paths = ListedPaths(manifest_folder(manifest), manifest)
    listed = [row._replace(path=paths.find(row)) for row in listed_rows.read(manifest, named)]
    listed, refused = without_refused(listed)
    left_out = {f"{kind} ({paths[0]})": len(paths) for kind, paths in refused.items()}
    if not listed:
        beside = f" {left_out_line(left_out).capitalize()}." if left_out else ""
        raise UserError(f"{named}: lists no image. The first line names the columns path and label.{beside}")
    rows = sorted(row for row in listed if row.label)
    listed_rows.require_one_label(named, rows)
    splits: dict[str, list[Row]] = {}
    for row in rows:
        splits.setdefault(row.in_split, []).append(row)
    if len(rows) < len(listed):
        left_out["test rows without a label"] = len(listed) - len(rows)
    trained = {row.class_name for row in splits.get("train", [])}
    for row in splits.get("validation", []):
        if trained and row.class_name not in trained:
            raise UserError(f"{named}: the label {shown(row.label)} has validation images and no training image.")
    if trained and "test" in splits:
        known = [row for row in splits["test"] if row.class_name in trained]
        if len(known) < len(splits["test"]):
            left_out["test rows of labels without training images"] = len(splits["test"]) - len(known)
            splits["test"] = known
    label_names = sorted_names(trained or (row.class_name for row in rows))
    labels = {name: label for label, name in enumerate(label_names)}
    examples = {
        split: tuple((row.path, labels[row.class_name]) for row in found) for split, found in splits.items() if found
    }
    words = {split: found[0].split for split, found in splits.items() if found and found[0].split}
    files = LabelledFiles(label_names, examples, left_out, words)
    return files.with_held_out(manifest, manifest_folder(manifest), validation_percent, minival_percent, hold_out_by)
