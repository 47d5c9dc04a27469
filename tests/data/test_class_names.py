"""Names of classes that would shift others in a list of one name a line are refused, wherever they come from."""

import json
import re

import pytest

from efficientnet_tpu.data import class_names
from efficientnet_tpu.data.records.tfrecord_layout import DatasetInfo, ShardInfo, SplitInfo
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.texts.printable import escaped
from tests.support import labelled_images
from tests.texts.test_printable import SIGNS


@pytest.mark.parametrize("sign", SIGNS, ids=ascii)
def test_one_rule(sign):
    with pytest.raises(UserError, match=re.escape(f"--labels=a: the class a{escaped(sign)}b has a sign in its name")):
        class_names.require_printable(["ok", f"a{sign}b"], "--labels=a")


@pytest.mark.parametrize("name", ["", " ", "\u3000"])
def test_a_class_has_a_name(name):
    with pytest.raises(UserError, match="class 1 has no name"):
        class_names.require_printable(["a", name], "x")


@pytest.mark.parametrize("name", ["t-shirt / top", "=1+1", "猫", "d'œuvre", "me@home", "a\\nb"])
def test_other_names_are_names(name):
    class_names.require_printable([name], "x")
    assert class_names.read_labels(class_names.labels_text(["a", name]), "x") == ("a", name)


def test_lists_of_names_have_a_line_for_each_in_every_program():
    names = ["a", *(f"b{sign}" for sign in SIGNS), "c"]  # of a run from before names were checked
    text = class_names.labels_text(names)
    assert len(text.splitlines()) == len(names) == text.encode().count(b"\n")


def test_a_list_is_split_at_its_lines_alone():
    with pytest.raises(UserError, match=r"the class a\\u2028b has a sign"):
        class_names.read_labels("a\u2028b\nc\n", "x")
    assert class_names.read_labels("a\nb", "x") == ("a", "b")
    assert class_names.read_labels("", "x") == ()


NAMES = ("cat", "a\u2028b")
SHARDS = [f"{split}-00000-of-00001" for split in ("train", "validation")]


def _files(tf, root, folders):
    for folder in folders:
        for index in range(3):
            path = root / folder / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tf.io.encode_png(tf.zeros([4, 4, 3], tf.uint8)).numpy())
    return [(f"{folder}/{index}.png", name) for folder, name in zip(folders, NAMES, strict=True) for index in range(3)]


def _folder(tf, root):
    _files(tf, root, NAMES)
    return root


def _csv(tf, root):
    rows = _files(tf, root, "xy")
    (root / "list.csv").write_text("".join(f'{path},"{name}"\n' for path, name in [("path", "label"), *rows]))
    return root / "list.csv"


def _json_lines(tf, root):
    rows = _files(tf, root, "xy")
    (root / "list.jsonl").write_text("".join(json.dumps({"path": path, "label": name}) + "\n" for path, name in rows))
    return root / "list.jsonl"


def _shards(tf, root):
    root.mkdir()
    for name in SHARDS:
        labelled_images.write_shard(tf, root / name, [(b"content", 0), (b"content", 1)])
    return root


def _dataset_json(tf, root):
    info = DatasetInfo(
        NAMES, {name.partition("-")[0]: SplitInfo(2, (ShardInfo(name, 2),)) for name in SHARDS}
    ).to_json()
    (_shards(tf, root) / "dataset.json").write_text(info)
    return root


def _labels_txt(tf, root):
    (_shards(tf, root) / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return root


def _names_in_records(tf, root):
    root.mkdir()
    for shard in SHARDS:
        with tf.io.TFRecordWriter(f"{root}/{shard}") as writer:
            for name in NAMES:
                example = tf.train.Example()
                for key, value in (("image", b"content"), ("label", name.encode())):
                    example.features.feature[key].bytes_list.value.append(value)
                writer.write(example.SerializeToString())
    return root


@pytest.mark.parametrize("make", [_folder, _csv, _json_lines, _dataset_json, _labels_txt, _names_in_records])
def test_every_source_of_images_refuses_them(tf, tmp_path, open_data, make):
    keys = "image=image,label=label" if make is _names_in_records else ""
    with pytest.raises(UserError, match=r"the class a\\u2028b has a sign in its name"):
        open_data(data_dir=make(tf, tmp_path / "set"), tfrecord_keys=keys)
