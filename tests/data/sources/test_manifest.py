"""Manifests: what a CSV or JSON Lines file may look like, and what is said of one that cannot be understood."""

import json
import os

import pytest

from efficientnet_tpu.data.sources import manifest
from efficientnet_tpu.errors import UserError


@pytest.fixture(autouse=True)
def _tensorflow(tf):
    """The file is read through tf.io.gfile."""


@pytest.fixture
def read(tmp_path):
    """read(text, name, **options) -> LabelledFiles of a manifest with this text."""

    def read_text(text, name="list.csv", validation_percent=10, minival_percent=0):
        (tmp_path / name).write_text(text, newline="")
        return manifest.read(str(tmp_path / name), validation_percent, minival_percent)

    return read_text


@pytest.fixture
def refusal(read, tmp_path):
    """What is said of a manifest, without its beginning, which names the file."""

    def message(text, name="list.csv"):
        with pytest.raises(UserError) as error:
            read(text, name)
        beginning = f"--data_dir={tmp_path}/{name}: "
        assert str(error.value).startswith(beginning)
        return str(error.value).removeprefix(beginning)

    return message


SPLITS = {
    "train": (("a.jpg", "cat"), ("deep/b.jpg", "dog"), ("/abs/c.jpg", "cat"), ("gs://bucket/d.jpg", "dog")),
    "validation": (("e.jpg", "dog"),),
}


def _as_csv(header, splits=SPLITS):
    return header + "".join(f"{path},{label},{split}\n" for split, rows in splits.items() for path, label in rows)


def _as_jsonl(splits=SPLITS):
    rows = [{"path": p, "label": label, "split": split} for split, rows in splits.items() for p, label in rows]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _check(files, root):
    assert files.label_names == ("cat", "dog")
    expected = {"train": [(f"{root}/a.jpg", 0), (f"{root}/deep/b.jpg", 1), ("/abs/c.jpg", 0), ("gs://bucket/d.jpg", 1)]}
    assert files.splits == {"train": tuple(sorted(expected["train"])), "validation": ((f"{root}/e.jpg", 1),)}
    assert files.left_out == {}


@pytest.mark.parametrize(
    "header",
    ["path,label,split", "File,Class,SPLIT", "filename, class, split", "image,label,split", '"path","label","split"'],
)
def test_columns_may_have_several_names(read, tmp_path, header):
    _check(read(_as_csv(f"{header}\n")), tmp_path)


@pytest.mark.parametrize(
    "header",
    ["file_name,label,split", "FilePath,category,set", "image_path,target,subset", "image_id,class_name,partition",
     "Image Name,label-name,Data Set", "img_path;label;split", "path\tlabel\tsplit", '"path"|"label"|"split"',
     "filepaths,labels,split"],
)  # fmt: skip
def test_columns_and_separators_of_other_programs(read, tmp_path, header):
    separator = next(one for one in ";\t|," if one in header)
    _check(read(_as_csv(f"{header}\n").replace(",", separator)), tmp_path)


def test_a_line_for_excel_before_the_header(read, tmp_path):
    _check(read("sep=;\n" + _as_csv("path,label,split\n").replace(",", ";")), tmp_path)


def test_numbers_as_paths(read, tmp_path):
    (tmp_path / "images").mkdir()
    for index in range(4):
        (tmp_path / "images" / f"{index}.jpg").touch()
    text = "".join(json.dumps({"image_id": index, "label": index % 2}) + "\n" for index in range(4))
    files = read(text, "list.jsonl")
    assert {path for examples in files.splits.values() for path, _ in examples} == {
        f"{tmp_path}/images/{index}.jpg" for index in range(4)
    }


def test_the_nameless_column_of_pandas(read, tmp_path):
    lines = _as_csv("path,label,split\n").splitlines()
    text = "\n".join([f",{lines[0]}", *(f"{number},{line}" for number, line in enumerate(lines[1:]))])
    _check(read(text), tmp_path)


def test_two_columns_need_no_name_for_the_label(read):
    assert read("id,breed\n" + "".join(f"{index},{'ab'[index % 2]}\n" for index in range(8))).label_names == ("a", "b")


@pytest.mark.parametrize("one", ["1", "1.0"])
def test_classes_as_columns(read, one):
    zero = one.replace("1", "0")
    rows = "".join(f"{index}.jpg,{(one, zero)[index % 2]},train,{(zero, one)[index % 2]}\n" for index in range(8))
    files = read(f"image,MEL,split,NV\n{rows}")
    assert files.label_names == ("MEL", "NV")
    assert {label for path, label in files.splits["train"] if "0.jpg" in path} <= {0}
    assert sum(label for examples in files.splits.values() for _, label in examples) == 4


def test_a_column_that_only_sounds_like_a_split(read):
    rows = "".join(f"{index},{'ab'[index % 2]},ISIC 2019\n" for index in range(8))
    assert read(f"image,label,dataset\n{rows}").held_out == ("validation",)


def test_test_rows_may_lack_a_label_or_have_others(read):
    text = "path,label,split\na,x,train\nb,y,train\nc,x,val\nd,,test\ne,y,test\nf,z,test\n"
    files = read(text)
    assert {split: len(examples) for split, examples in files.splits.items()} == {
        "train": 2,
        "validation": 1,
        "test": 1,
    }
    assert files.left_out == {"test rows without a label": 1, "test rows of labels without training images": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace(",validation", ",val").replace(",train", ", Train "),
        lambda text: text.replace(",", ", "),
        lambda text: text.replace("a.jpg", '"a.jpg"').replace(",cat", ',"cat"'),
    ],
    ids=["byte order mark", "Windows", "blank lines", "no last newline", "split words", "spaces", "quotes"],
)
def test_csv_as_programs_write_it(read, tmp_path, change):
    _check(read(change(_as_csv("path,label,split\n"))), tmp_path)


@pytest.mark.parametrize("change", [str, lambda text: "\ufeff" + text.replace("\n", "\r\n\r\n"), str.rstrip])
def test_json_lines(read, tmp_path, change):
    _check(read(change(_as_jsonl()), "list.jsonl"), tmp_path)


def test_a_path_may_hold_commas_and_other_columns_are_passed_over(read, tmp_path):
    files = read('id,label,path\n1,a,"x, y.jpg"\n2,b,z.jpg\n3,a,2.jpg\n4,b,3.jpg\n', validation_percent=50)
    paths = {path for examples in files.splits.values() for path, _ in examples}
    assert paths == {f"{tmp_path}/{name}" for name in ("x, y.jpg", "z.jpg", "2.jpg", "3.jpg")}


def test_the_same_line_again_counts_again(read):
    """A way to weigh classes."""
    files = read("path,label,split\na,x,train\na,x,train\nb,y,train\nc,x,val\n")
    assert [label for _, label in files.splits["train"]] == [0, 0, 1]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "0"], ("0", "9", "10")),
        (["b", "10", "9"], ("10", "9", "b")),
        (["dog", "Cat", "ape"], ("Cat", "ape", "dog")),
        (["2", "1", "0"], ("0", "1", "2")),
        (["2.0", "10.0", "0.0", "1.0"], ("0.0", "1.0", "2.0", "10.0")),
        (["-1", "10", "9"], ("-1", "9", "10")),
        (["1e3", "10", "9"], ("10", "1e3", "9")),
        (["e\u0301", "f"], ("f", "\u00e9")),
    ],
)
def test_labels_are_sorted_by_name_or_as_numbers(read, labels, names):
    rows = [(f"{label}{index}.jpg", label) for label in labels for index in range(2)]
    text = "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows)
    assert read(text).label_names == names
    if all(label.removeprefix("-").replace(".", "").isdecimal() for label in labels):
        text = "".join(json.dumps({"path": path, "label": json.loads(label)}) + "\n" for path, label in rows)
        assert read(text, "list.jsonl").label_names == names


def test_without_a_split_column_the_same_images_are_held_out_as_of_a_folder(read, tmp_path):
    from efficientnet_tpu.data.sources import image_folder

    names = [f"{name}/{index:03d}.jpg" for name in ("cat", "dog") for index in range(100)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = read("path,label\n" + "".join(f"{name},{name[:3]}\n" for name in names), "list.csv", 20, 10)
    folder = image_folder.scan(str(tmp_path), 20, 10)
    assert files.label_names == folder.label_names
    assert files.splits == folder.splits
    assert len(files.splits["validation"]) == 40
    assert files.splits["minival"]


def test_the_split_does_not_depend_on_how_the_manifest_is_named(read, tmp_path, monkeypatch):
    """A run record keeps the absolute name."""
    names = [f"{index}.jpg" for index in range(40)] + [f"{tmp_path}/sub/{index}.jpg" for index in range(40)]
    files = read("path,label\n" + "".join(f"{name},{index % 2}\n" for index, name in enumerate(names)), "list.csv", 30)
    monkeypatch.chdir(tmp_path)
    assert manifest.read("list.csv", 30).splits == files.splits
    monkeypatch.chdir(tmp_path.parent)
    assert manifest.read(f"{tmp_path.name}/list.csv", 30).splits == files.splits


@pytest.mark.parametrize(
    ("splits", "counts", "held_out"),
    [
        ("train valid TEST", {"train": 2, "validation": 2, "test": 2}, ()),
        ("Training dev", {"train": 2, "validation": 2}, ()),
        ("train test", {"train": 2, "validation": 2}, ()),
        ("train train", {"train": 2, "validation": 2}, ("validation",)),
        ("eval", {"validation": 2}, ()),
        ("val test", {"validation": 2, "test": 2}, ()),
    ],
)
def test_split_words_as_people_write_them(read, splits, counts, held_out):
    lines = [f"{row}{label}.jpg,{label},{word}\n" for row, word in enumerate(splits.split()) for label in "ab"]
    files = read("path,label,split\n" + "".join(lines), validation_percent=50)
    assert {split: len(examples) for split, examples in files.splits.items()} == counts
    assert files.held_out == held_out
    assert files.label_names == ("a", "b")


def test_minival_beside_a_split_column(read):
    rows = "".join(f"{index},{'ab'[index % 2]},train\n" for index in range(100))
    files = read(f"path,label,split\n{rows}x,a,validation\n", minival_percent=20)
    assert [path.rpartition("/")[2] for path, _ in files.splits["validation"]] == ["x"]
    assert len(files.splits["minival"]) == pytest.approx(20, abs=10)


CSV_ERRORS = {
    "": "line 1: the header has no column path (or file, filename, image, image_id); found: nothing.",
    "a.jpg,cat\nb.jpg,dog\n": "line 1: the header has no column path (or file, filename, image, image_id); found: a.j",
    "path:label\na:b\n": "line 1: the header has no column path (or file, filename, image, image_id); found: path:lab",
    "path,species,age\na,b,7\n": "line 1: the header has no column label (or class, category, target); found: path, s",
    "path;label\na;x;y\n": "line 2: 3 values for the 2 columns of the header. Put quotes around a value that has",
    "path,cat,dog\na,1,0\nb,1,1\n": "line 3: 2 classes have a 1 (cat, dog); wanted is one.",
    "path,cat,dog\na,1,0\nb,0,0\n": "line 3: 0 classes have a 1 (); wanted is one.",
    "path,label\n": "lists no image.",
    "path,label\na,x\nb,\n": "line 3: the label is empty.",
    "path,label\na,x\nb\n": "line 3: the label is empty.",
    "path,label\n ,x\n": "line 2: the path is empty.",
    "path,label\na,x\nb,c,y\n": "line 3: 3 values for the 2 columns of the header. Put quotes around a value",
    "path,label,split\na,x,train\nb,y,\n": "line 3: the split is empty.",
    "path,label,split\na,x,train\n\nb,y,fold 1\n": "line 4: the split is fold 1; it must be train, validation, test.",
    "path,label,split\na,x,train\nb,y,train\n": "2 images, one of each class, leave none to validate on.",
    "path,label,split\na,x,train\nb,y,val\n": "the label y has validation images and no training image.",
    f"path,label,split\na,x,train\nb,{'y' * 5000},val\n": f"the label {'y' * 200}... (5,000 characters) has validation",
    "path,label\na,x\nc,x\nb,y\na,y\n": "lines 2 and 5 disagree on {root}/a: x or y. An image has one label",
    "path,label,split\na,x,train\na,x,val\n": "lines 2 and 3 disagree on {root}/a: x in train or x in val.",
    "path,label\na,x\nb,y\n": "2 images, one of each class, leave none to validate on.",
    'path,label\n"a,x\nb,y\n': "line 3: unexpected end of data.",
}


@pytest.mark.parametrize("text", CSV_ERRORS)
def test_a_csv_file_that_cannot_be_understood(refusal, tmp_path, text):
    message = refusal(text)
    assert message.startswith(CSV_ERRORS[text].format(root=tmp_path)), message


JSON_ERRORS = {
    '{"path": "a", "label": "x"}\n{"path": "a", "label": "x", "split": "val"}\n': "line 2: has a split,",
    "": "lists no image.",
    '{"path": "a", "label": "x"}\n\nnonsense\n': "line 3: is not JSON: ",
    '["a", "x"]\n': "line 1: is not a JSON object with the keys path and label.",
    '{"path": "a", "label": "x"}\n{"path": "b"}\n': "line 2 has no column label (or class, category, target); found: p",
    '{"path": "a", "label": ""}\n': "line 1: the label is empty.",
    '{"path": "a", "label": null}\n': "line 1: the label is null; it must be a text.",
    '{"path": "a", "label": true}\n': "line 1: the label is true; it must be a text.",
    '{"path": 7.5, "label": "x"}\n': "line 1: the path is 7.5; it must be a text.",
    '{"path": "a", "label": "x", "split": "fold"}\n': "line 1: the split is fold; it must be train, validation, test.",
    '{"path": "a", "label": "x", "split": "train"}\n{"path": "b", "label": "x"}\n': "line 2: has no split,",
}


@pytest.mark.parametrize("text", JSON_ERRORS)
def test_a_json_lines_file_that_cannot_be_understood(refusal, text):
    message = refusal(text, "list.jsonl")
    assert message.startswith(JSON_ERRORS[text]), message


def test_a_file_in_another_encoding(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"path,label\na,x\nb,caf\xe9\n")
    with pytest.raises(UserError, match=f"--data_dir={tmp_path}/list.csv: line 3 is not UTF-8: b'b,caf"):
        manifest.read(f"{tmp_path}/list.csv", 10)


def test_excels_unicode_text_is_named(tmp_path):
    (tmp_path / "list.csv").write_text("path\tlabel\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"list\.csv: is UTF-16, as Excel's Unicode text is\. Save it as UTF-8"):
        manifest.read(f"{tmp_path}/list.csv", 10)


def test_windows_paths_that_lead_nowhere_are_named(open_data, tmp_path):
    for path, word in ((r"D:\\set\\{}.jpg", "D: is a drive of Windows"), (r"set\\{}.jpg", "backslashes")):
        rows = "".join(f"{path.format(index)},{index % 2}\n".replace("\\\\", "\\") for index in range(6))
        (tmp_path / "list.csv").write_text(f"path,label\n{rows}")
        with pytest.raises(UserError, match=word):
            open_data(data_dir=tmp_path / "list.csv")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=f"--data_dir={tmp_path}/none.csv: cannot be read: "):
        manifest.read(f"{tmp_path}/none.csv", 10)


def test_a_manifest_on_another_file_system(tf):
    with tf.io.gfile.GFile("ram://test_manifest/list.csv", "w") as file:
        file.write("path,label,split\na.jpg,x,train\nb.jpg,y,train\nc.jpg,y,validation\n")
    files = manifest.read("ram://test_manifest/list.csv", 10)
    assert files.splits["validation"] == (("ram://test_manifest/c.jpg", 1),)


@pytest.mark.slow
def test_a_hundred_thousand_lines_are_read(read):
    text = "path,label\n" + "".join(f"folder/{index:08d}.jpg,class {index % 100}\n" for index in range(100_000))
    files = read(text)
    assert sum(len(examples) for examples in files.splits.values()) == 100_000


@pytest.mark.parametrize(
    ("name", "expected"), [("a.csv", True), ("gs://b/A.JSONL", True), ("csv", False), ("a.txt", False)]
)
def test_a_manifest_is_told_by_its_name(name, expected):
    assert manifest.is_manifest(name) == expected


def _listing(root, rename=str):
    """Text of a manifest of the image folder `root`."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    rows = [f"{path},{rename(path.parent.name)},{path.parent.parent.name}\n" for path in paths]
    return "".join(["path,label,split\n", *rows])


@pytest.mark.slow
def test_a_manifest_of_a_folder_evaluates_as_the_folder_and_its_labels_are_checked(shapes, trained, tmp_path, capsys):
    from efficientnet_tpu import cli

    (tmp_path / "list.csv").write_text(_listing(shapes))
    (tmp_path / "other.csv").write_text(_listing(shapes, lambda label: label.replace("circle", "ring")))
    results = []
    for data_dir in (shapes, tmp_path / "list.csv"):
        cli.main(["main.py", "evaluate", f"--model_dir={trained}", f"--data_dir={data_dir}"])
        results.append(capsys.readouterr().out.splitlines()[-1].rpartition("(")[0])  # but for the time it took
    assert results[0] == results[1]
    assert "15 of 57 images" in results[0]
    with pytest.raises(UserError, match=r"other\.csv: 1 of its 3 classes \(ring\) are not among the 3 of the run"):
        cli.main(["main.py", "evaluate", f"--model_dir={trained}", f"--data_dir={tmp_path}/other.csv"])


def test_rows_that_name_no_file_are_left_out(read, refusal, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    rows = "a.jpg,cat,train\nb.jpg,dog,train\nc.jpg,dog,val\n"
    bad = "pipe.jpg,cat,train\n/dev/zero,dog,train\n"
    files = read(f"path,label,split\n{rows}{bad}")
    assert files.splits["train"] == ((f"{tmp_path}/a.jpg", 0), (f"{tmp_path}/b.jpg", 1))
    assert files.left_out == {f"named pipe ({tmp_path}/pipe.jpg)": 1, "device (/dev/zero)": 1}
    assert "Left out: 1 named pipe" in refusal(f"path,label,split\n{bad}")
