"""Which file a list's path is, as other machines and programs write it."""

import os
import unicodedata

import pytest

from efficientnet_tpu.data.sources.listed_paths import ListedPaths, spelling_note
from efficientnet_tpu.data.sources.listed_rows import Row
from tests.support.labelled_images import touch


def _find(root, path, label="cat", split=None, name="list.csv"):
    found = ListedPaths(str(root), f"{root}/{name}").find(Row(path, label, split, 2))
    return found.removeprefix(f"{root}/")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("train/cat/1.jpg", "train/cat/1.jpg"),
        ("train/cat/1", "train/cat/1.jpg"),
        ("cat/1.jpg", "train/cat/1.jpg"),
        ("1.jpg", "train/cat/1.jpg"),
        ("2.v1", "images/2.v1.PNG"),
        ("2.v1.PNG", "images/2.v1.PNG"),
        (r"train\cat\1.jpg", "train/cat/1.jpg"),
        (r".\train\cat\1.jpg", "./train/cat/1.jpg"),
        (r"C:\Users\me\set\train\cat\1.jpg", "train/cat/1.jpg"),
        (r"C:\Users\me\set\train\cat\1", "train/cat/1.jpg"),
        ("d:/set/train/cat/1.jpg", "train/cat/1.jpg"),
        (r"\\server\share\train\cat\1.jpg", "train/cat/1.jpg"),
        (r"odd\name.jpg", r"odd\name.jpg"),
        ("none.jpg", "none.jpg"),
        (r"train\none.jpg", r"train\none.jpg"),
        ("gs://bucket/1.jpg", "gs://bucket/1.jpg"),
        ("1", "train/cat/1.jpg"),
        ("folder", "folder"),
    ],
)  # fmt: skip
def test_paths_as_they_are_written(tmp_path, path, found):
    touch(tmp_path, "train/cat/1.jpg", "images/2.v1.PNG", r"odd\name.jpg", "train/folder/3.jpg")
    assert _find(tmp_path, path) == found


def test_a_path_that_is_there_is_taken_before_all_others(tmp_path):
    touch(tmp_path, "1.jpg", "1", "train/1.jpg", "train/cat/1.jpg")
    assert [_find(tmp_path, name) for name in ("1.jpg", "1", "train/1.jpg")] == ["1.jpg", "1", "train/1.jpg"]


def test_the_folder_that_fits_is_taken_before_others(tmp_path):
    touch(tmp_path, "aaa/1.jpg", "images/1.jpg", "labels/1.jpg", "Test/1.jpg", "train/1.jpg")
    assert _find(tmp_path, "1.jpg", split="testing") == "Test/1.jpg"
    assert _find(tmp_path, "1.jpg", name="labels.csv") == "labels/1.jpg"
    assert _find(tmp_path, "1.jpg", name="train.csv") == "train/1.jpg"
    assert _find(tmp_path, "1.jpg") == "images/1.jpg"


def test_home(tmp_path, monkeypatch):
    touch(tmp_path, "home/set/1.jpg", "lists/~/2.jpg")
    monkeypatch.setenv("HOME", f"{tmp_path}/home")
    assert _find(tmp_path / "lists", "~/set/1.jpg") == f"{tmp_path}/home/set/1.jpg"
    assert _find(tmp_path / "lists", "~/set/1") == f"{tmp_path}/home/set/1.jpg"
    assert _find(tmp_path / "lists", "~/set/none.jpg") == f"{tmp_path}/home/set/none.jpg"
    assert _find(tmp_path / "lists", "~/2.jpg") == "~/2.jpg"


def test_accents_in_either_way_of_unicode(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))
    touch(tmp_path, f"a/{decomposed}", f"b/{composed}")
    assert _find(tmp_path, f"a/{composed}") == f"a/{decomposed}"
    assert _find(tmp_path, f"b/{decomposed}") == f"b/{composed}"


def test_folders_are_listed_once_and_files_not_asked_for(tmp_path, monkeypatch):
    touch(tmp_path, *(f"train/{index}.jpg" for index in range(50)))
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    monkeypatch.setattr(os, "stat", None)
    paths = ListedPaths(str(tmp_path), "ids.csv")
    found = [paths.find(Row(str(index), "cat", None, index)) for index in range(50)]
    assert found == [f"{tmp_path}/train/{index}.jpg" for index in range(50)]
    assert len(listed) == len(set(listed)) <= 5


@pytest.mark.parametrize(
    ("path", "word"),
    [("/list/C:\\me\\1.jpg", "C: is a drive of Windows"), ("/list/a\\1.jpg", "backslashes"), ("/list/a/1.jpg", "")],
)
def test_what_is_said_of_paths_that_no_file_has(path, word):
    assert word in spelling_note(["/list/b.jpg", path])
    assert bool(spelling_note([path])) == bool(word)
