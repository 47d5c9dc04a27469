"""Folders whose images lie in no class folders: read by a list inside, or named with what makes them readable."""

import re
import subprocess

import pytest

from efficientnet_tpu.data.sources import image_folder, manifest
from efficientnet_tpu.errors import UserError
from tests.support.labelled_images import touch


@pytest.fixture(autouse=True)
def _tensorflow(tf):
    """scan asks tf.io.gfile for the root."""


def _found(root):
    """split -> {name below the root: class}, and what was left out."""
    files = image_folder.scan(str(root), 10)
    splits = {
        split: {path.removeprefix(f"{root}/"): files.label_names[label] for path, label in examples}
        for split, examples in files.splits.items()
    }
    return splits, files.left_out


def _refusal(root):
    with pytest.raises(UserError) as error:
        image_folder.scan(str(root), 10)
    message = str(error.value)
    assert "remove" not in message.lower()
    assert "delete" not in message.lower()
    return message


def test_tiny_imagenet(tmp_path):
    touch(
        tmp_path, "wnids.txt", "words.txt", "test/images/test_0.JPEG", "val/images/val_0.JPEG", "val/images/val_1.JPEG"
    )
    for wnid in ("n01443537", "n01629819"):
        touch(tmp_path, f"train/{wnid}/images/{wnid}_0.JPEG", f"train/{wnid}/{wnid}_boxes.txt")
    boxes = "val_0.JPEG\tn01629819\t0\t32\t44\t62\nval_1.JPEG\tn01443537\t52\t55\t57\t59\n"
    (tmp_path / "val" / "val_annotations.txt").write_text(boxes)
    assert _found(tmp_path) == (
        {
            "train": {f"train/{wnid}/images/{wnid}_0.JPEG": wnid for wnid in ("n01443537", "n01629819")},
            "validation": {"val/images/val_0.JPEG": "n01629819", "val/images/val_1.JPEG": "n01443537"},
        },
        {".txt": 4, "of test in images, a class without training images": 1},
    )


LISTS = {
    "_classes.csv": "filename, cat, dog\n0.jpg, 1, 0\n1.jpg, 0, 1\n",  # Roboflow, several classes
    "_annotations.csv": "filename,width,height,class,xmin\n0.jpg,9,9,cat,1\n0.jpg,9,9,cat,3\n1.jpg,9,9,dog,1\n",
    "metadata.csv": "file_name,label\n0.jpg,cat\n1.jpg,dog\n",  # Hugging Face
    "metadata.jsonl": '{"file_name": "0.jpg", "label": "cat"}\n{"file_name": "1.jpg", "label": "dog"}\n',
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_in_a_splits_folder(tmp_path, name):
    for split in ("train", "valid", "test"):
        touch(tmp_path, f"{split}/0.jpg", f"{split}/1.jpg", f"{split}/2.jpg")
        (tmp_path / split / name).write_text(LISTS[name])
    splits, left_out = _found(tmp_path)
    assert splits == {
        split: {f"{folder}/0.jpg": "cat", f"{folder}/1.jpg": "dog"}
        for split, folder in (("train", "train"), ("validation", "valid"), ("test", "test"))
    }
    assert left_out == {f"that {name} does not list": 3}


def test_boxes_of_several_classes_are_no_labels(tmp_path):
    touch(tmp_path, "train/0.jpg", "train/1.jpg")
    (tmp_path / "train" / "_annotations.csv").write_text("filename,class\n0.jpg,cat\n0.jpg,dog\n1.jpg,dog\n")
    assert "lines 2 and 3 disagree on" in _refusal(tmp_path)


def test_a_list_in_a_relative_folder_holds_out_the_same_images(tmp_path, monkeypatch):
    touch(tmp_path, *(f"{index}.jpg" for index in range(60)))
    rows = "".join(f"{index}.jpg,{index % 2}\n" for index in range(60))
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{rows}")
    held_out = [path.rpartition("/")[2] for path, _ in image_folder.scan(str(tmp_path), 20).splits["validation"]]
    monkeypatch.chdir(tmp_path)
    assert [path for path, _ in image_folder.scan(".", 20).splits["validation"]] == [f"./{name}" for name in held_out]


@pytest.mark.parametrize("names", [["val/{}", "train/n01443537/a.JPEG", "train/n01629819/a.JPEG"], ["{}"]])
def test_imagenets_validation_images(tmp_path, names):
    touch(tmp_path, *(name.format(f"ILSVRC2012_val_0000000{index}.JPEG") for name in names for index in (1, 2)))
    folder = tmp_path / "val" if len(names) > 1 else tmp_path
    assert f"`cd {folder} && wget -qO- https://" in _refusal(tmp_path)
    labels = {"ILSVRC2012_val_00000001": "n01443537 1 2 3 4", "ILSVRC2012_val_00000002": "n01629819 5 6 7 8 "}
    rows = "".join(f"{name},{label}\n" for name, label in labels.items())
    (folder / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\n{rows}")
    if len(names) > 1:
        splits, _ = _found(tmp_path)
        assert list(splits["validation"].values()) == ["n01443537", "n01629819"]


def test_kaggles_list_beside_its_folders(tmp_path):
    touch(tmp_path, *(f"{split}/{index}.jpg" for split in ("train", "test") for index in range(6)))
    (tmp_path / "sample_submission.csv").write_text("image_id,breed\n0,cat\n")
    (tmp_path / "train.csv").write_text(
        "image_id,breed\n" + "".join(f"{index},{'ab'[index % 2]}\n" for index in range(6))
    )
    message = _refusal(tmp_path)
    named = re.search(r"give --data_dir=(\S+)\. ", message)[1]
    assert named == f"{tmp_path}/train.csv"
    files = manifest.read(named, 10)
    paths = sorted(path for examples in files.splits.values() for path, _ in examples)
    assert paths == [f"{tmp_path}/train/{index}.jpg" for index in range(6)]


@pytest.mark.parametrize(
    ("folders", "form", "classes"),
    [
        (["train", "test1"], "{}.{}.jpg", ("cat", "dog")),
        (["my pets"], "{}_{}.jpg", ("american_bulldog", "Abyssinian")),
    ],
)
def test_names_that_begin_with_the_class(tmp_path, folders, form, classes):
    names = sorted(form.format(name, index) for name in classes for index in range(3))
    touch(
        tmp_path,
        *(f"{folders[0]}/{name}" for name in names),
        *(f"{other}/{i}.jpg" for other in folders[1:] for i in "12"),
    )
    root = tmp_path if len(folders) > 1 else tmp_path / folders[0]
    message = _refusal(root)
    subprocess.run(re.search(r"`(.*)` writes", message)[1], shell=True, check=True)
    files = manifest.read(re.search(r"--data_dir=([^`]*?list\.csv)\. ", message)[1], 10)
    assert files.label_names == tuple(sorted(classes))
    assert sum(map(len, files.splits.values())) == 6


def test_a_list_beside_a_folder_of_images(tmp_path):
    touch(tmp_path, "images/1.jpg", "images/2.jpg", "sample_submission.csv", "test.csv", "train.csv")
    assert f"If train.csv lists their labels, give --data_dir={tmp_path}/train.csv." in _refusal(tmp_path)


def test_a_folder_around_the_classes(tmp_path):
    touch(tmp_path, "download/cat/1.jpg", "download/dog/1.jpg")
    assert f"If cat, dog in it are the classes or the splits, give --data_dir={tmp_path}/download." in _refusal(
        tmp_path
    )


def test_a_test_folder_without_labels_is_left_out(tmp_path):
    touch(
        tmp_path, *(f"{split}/{name}/1.jpg" for split in ("train", "val") for name in "ab"), "test/1.jpg", "test/2.jpg"
    )
    splits, left_out = _found(tmp_path)
    assert set(splits) == {"train", "validation"}
    assert left_out == {".jpg outside the class folders": 2}
