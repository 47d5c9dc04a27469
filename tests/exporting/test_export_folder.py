"""What is in the folder of an export, versions, and its README."""

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import export_folder
from efficientnet_tpu.exporting.export_folder import EXPORT_JSON, ExportRecord

RECORD = ExportRecord("efficientnet-b0", 1000, "ab" * 32, ("keras", "onnx"))


@pytest.fixture
def folder(tmp_path):
    """The folder of an export."""
    (tmp_path / EXPORT_JSON).write_text(RECORD.as_text())
    return str(tmp_path)


def test_a_record_is_read_as_it_was_written(folder, tmp_path):
    assert export_folder.read_record(folder) == RECORD
    assert export_folder.read_record(f"{tmp_path}/none") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": "x"}', RECORD.as_text().replace("1000", "null")])
def test_a_damaged_record_is_one_line(folder, tmp_path, text):
    (tmp_path / EXPORT_JSON).write_text(text)
    with pytest.raises(UserError, match=f"--output_dir={folder}: {EXPORT_JSON}: "):
        export_folder.read_record(folder)


def test_only_other_formats_are_added(folder, tmp_path):
    export_folder.require_room(folder, ["savedmodel", "tflite"])
    export_folder.require_room(f"{folder}/new", ["onnx"])
    with pytest.raises(UserError, match=f"--output_dir={folder}: holds onnx already"):
        export_folder.require_room(folder, ["tflite", "onnx"])
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="photos: exists already"):
        export_folder.require_room(f"{folder}/photos", ["onnx"])


def test_versions_are_counted_up_and_the_newest_is_taken(tmp_path):
    folder = f"{tmp_path}/flowers"
    assert export_folder.export_place(f"{folder}/", versioned=True) == f"{folder}/1"
    assert export_folder.export_place(f"{folder}/", versioned=False) == folder
    for name in ("1", "9", "10", "tmp", "11.unfinished.tmp", "\u0663"):
        (tmp_path / "flowers" / name).mkdir(parents=True)
    assert export_folder.export_place(folder, versioned=True) == f"{folder}/11"
    assert export_folder.newest_version(f"{folder}/") == f"{folder}/10"
    assert export_folder.newest_version(f"{folder}/9") == f"{folder}/9"
    (tmp_path / "flowers" / "saved_model.pb").touch()  # a SavedModel that has such folders in it
    assert export_folder.newest_version(folder) == folder
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: is a file"):
        export_folder.export_place(f"{tmp_path}/file", versioned=True)
