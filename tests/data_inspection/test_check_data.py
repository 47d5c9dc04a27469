"""Every fault that a data set may have is planted, and found by name; a clean one passes."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from efficientnet_tpu.errors import UserError
from tests.support import image_files
from tests.support.image_files import encode, exif, photo

GOOD, BAD = image_files.good(), image_files.bad()


def _jpeg(number, side=40):
    """A JPEG that is different for every number."""
    return encode(photo(side, side + number), "JPEG")


def _write(root, files):
    for name, encoded in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    return root


def _clean():
    """Two classes, three images to train on and one to validate."""
    names = [f"train/{name}/{index}.jpg" for name in ("cat", "dog") for index in range(3)]
    names += ["validation/cat/0.jpg", "validation/dog/0.jpg"]
    return {name: _jpeg(number) for number, name in enumerate(names)}


@pytest.fixture
def check(tf, tmp_path, capfd):
    """A function that runs the command on a folder: exit status, report, what it printed."""
    from efficientnet_tpu import cli

    def check(data_dir, *flags, status):
        report = tmp_path / "report.json"
        command = ["main.py", "check-data", f"--data_dir={data_dir}", f"--report={report}", *flags]
        if status:
            with pytest.raises(SystemExit) as stopped:
                cli.main(command)
            assert stopped.value.code == status
        else:
            cli.main(command)
        out, err = capfd.readouterr()
        assert err == ""  # libjpeg would write a line for every damaged file
        return json.loads(report.read_text()), out

    return check


def _wheres(finding):
    return [image["where"] for image in finding["images"]]


def test_a_clean_folder_passes(check, tmp_path):
    root = _write(tmp_path / "photos", _clean())
    report, out = check(root, status=0)
    assert report["findings"] == {}
    assert report["must_mend"] is False
    assert report["formats"] == {"JPEG": 8, "PNG": 0, "GIF": 0, "BMP": 0, "WebP": 0}
    assert report["splits"]["train"]["labels"] == [["cat", 3], ["dog", 3]]
    assert report["splits"]["train"]["num_bytes"] == sum(
        len(encoded) for name, encoded in _clean().items() if name.startswith("train")
    )
    assert report["height"] == dict.fromkeys(("smallest", "5%", "median", "95%", "largest"), 40)
    assert report["width"] == {"smallest": 40, "5%": 40, "median": 44, "95%": 47, "largest": 47}
    assert report["smaller_than_resolution"] == 8
    lines = out.splitlines()
    assert f"--data_dir={root}: 8 images of 2 classes read in" in out
    assert "  validation: 2 images, 0.0 MB; 1 in every class" in lines
    assert "  100.0% have a side under the model's 224 pixels, and are enlarged" in lines
    assert lines[-2:] == ["Nothing has to be mended.", f"everything in {tmp_path / 'report.json'}"]


@pytest.mark.slow
@pytest.mark.webp
def test_unreadable_files_are_named_with_their_reasons(check, tmp_path):
    bad = {f"train/cat/{name.replace(' ', '_')}.jpg": encoded for name, (encoded, _) in BAD.items()}
    root = _write(tmp_path / "photos", _clean() | bad)
    report, out = check(root, status=1)
    finding = report["findings"]["unreadable"]
    assert {image["where"]: image["reason"] for image in finding["images"]} == {
        str(root / f"train/cat/{name.replace(' ', '_')}.jpg"): reason for name, (_, reason) in BAD.items()
    }
    assert finding["count"] == report["splits"]["train"]["num_unreadable"] == len(BAD)
    assert report["splits"]["train"]["labels"] == [["cat", 3], ["dog", 3]]
    assert set(report["findings"]) == {"unreadable"}  # copies among them do not count
    assert f"  {len(BAD)} unreadable: training leaves them out, evaluation stops at them\n" in out
    assert f"      and {len(BAD) - 3} more\n" in out
    assert sum(not line.endswith(" to go") for line in out.splitlines()) < 24


def test_a_file_that_is_gone_and_the_resolution_asked_for(check, tmp_path):
    root = _write(tmp_path / "photos", _clean())
    (root / "train/cat/gone.jpg").symlink_to(root / "nowhere")
    report, _ = check(root, "--resolution=42", status=1)
    assert report["resolution"] == 42
    assert report["smaller_than_resolution"] == 8  # 40 pixels high, up to 47 wide
    (image,) = report["findings"]["unreadable"]["images"]
    assert image["where"] == str(root / "train/cat/gone.jpg")
    assert image["reason"].startswith("cannot be had: ")
    assert "No such file" in image["reason"]


def test_leak(check, tmp_path):
    files = _clean()
    files["validation/cat/9.jpg"] = files["train/cat/1.jpg"]
    root = _write(tmp_path / "photos", files)
    report, out = check(root, status=1)
    assert report["findings"] == {
        "leaks": {
            "count": 1,
            "must_mend": True,
            "images": [
                {
                    "copies": [
                        {"split": "train", "where": str(root / "train/cat/1.jpg"), "label": "cat"},
                        {"split": "validation", "where": str(root / "validation/cat/9.jpg"), "label": "cat"},
                    ]
                }
            ],
        }
    }
    assert f"      train {root}/train/cat/1.jpg = validation {root}/validation/cat/9.jpg\n" in out


def test_conflicts_and_copies(check, tmp_path):
    """One image in two classes, one in two classes and splits, one three times in its class, which does no harm."""
    files = _clean()
    files["train/dog/7.jpg"] = files["train/cat/0.jpg"]
    files["validation/dog/8.jpg"] = files["train/cat/1.jpg"]
    files["train/cat/8.jpg"] = files["train/cat/9.jpg"] = files["train/cat/2.jpg"]
    root = _write(tmp_path / "photos", files)
    report, out = check(root, status=1)
    groups = {
        kind: [[copy["where"].removeprefix(f"{root}/") for copy in group["copies"]] for group in finding["images"]]
        for kind, finding in report["findings"].items()
    }
    assert groups == {
        "leaks": [["train/cat/1.jpg", "validation/dog/8.jpg"]],
        "conflicting_labels": [["train/cat/0.jpg", "train/dog/7.jpg"], ["train/cat/1.jpg", "validation/dog/8.jpg"]],
        "duplicates": [["train/cat/2.jpg", "train/cat/8.jpg", "train/cat/9.jpg"]],
    }
    assert {kind: finding["count"] for kind, finding in report["findings"].items()} == {
        "leaks": 1,
        "conflicting_labels": 2,
        "duplicates": 2,
    }
    assert f"      {root}/train/cat/0.jpg (cat) = {root}/train/dog/7.jpg (dog)\n" in out
    assert "  2 further copies within a class: " in out


@pytest.mark.webp
def test_what_is_worth_knowing(check, tmp_path):
    files = _clean() | {
        "train/cat/a.jpg": GOOD["PNG"],
        "train/cat/b.JPG": GOOD["WebP"],
        "train/cat/c.jpg": GOOD["CMYK JPEG"],
        "train/cat/d.png": encode(np.zeros([50, 60], np.uint16), "PNG"),
        "train/cat/e.gif": GOOD["animated GIF"],
        "train/cat/f.jpg": encode(photo(), "JPEG", exif=exif(3)),
        "train/cat/i.png": encode(photo(), "PNG", exif=exif(6)),
        "train/cat/j.webp": encode(photo(), "WEBP", exif=exif(8)),
        "train/cat/k.png": GOOD["RGBA PNG"],
        "train/cat/l.gif": encode(Image.fromarray(photo()).quantize(8), "GIF", transparency=1),
        "train/cat/m.webp": GOOD["WebP with alpha"],
        "train/cat/h.png": encode(Image.fromarray(photo(30, 300)), "PNG"),
    }
    root = _write(tmp_path / "photos", files)
    report, out = check(root, status=0)
    findings = {kind: _wheres(finding) for kind, finding in report["findings"].items()}
    expected = {
        "disguised": ["a.jpg", "b.JPG"],
        "CMYK": ["c.jpg"],
        "16_bit": ["d.png"],
        "animated": ["e.gif"],
        "rotated_by_EXIF": ["f.jpg", "i.png", "j.webp"],
        "transparent": ["k.png", "l.gif", "m.webp"],
    }
    assert findings == {kind: [str(root / "train/cat" / name) for name in names] for kind, names in expected.items()}
    assert f"{root}/train/cat/b.JPG is a WebP" in out
    assert "3 to be turned, say their EXIF data, which is done (--noexif_orientation does not)" in out
    assert "3 with transparent parts, laid on white (--background)" in out
    assert report["long"] == 1
    assert report["largest_ratio"] == 10.0
    assert "  1 more than 3 times as long as wide, the longest 10 times" in out


@pytest.mark.slow
def test_manifest(check, tmp_path):
    """Of a class without validation images, with an empty file."""
    files = _clean() | {"train/cat/0.jpg": b""}
    del files["validation/dog/0.jpg"]
    root = _write(tmp_path / "photos", files)
    rows = [f"{name},{name.split('/')[1]},{name.split('/')[0]}\n" for name in files]
    (root / "list.csv").write_text("path,label,split\n" + "".join(rows))
    report, out = check(root / "list.csv", status=1)
    assert _wheres(report["findings"]["unreadable"]) == [str(root / "train/cat/0.jpg")]
    assert report["splits"]["train"]["labels"] == [["cat", 2], ["dog", 3]]
    assert "  validation: 1 images, 0.0 MB; 1 in every class, none of dog\n" in out


@pytest.fixture
def shards(tf, tmp_path):
    """Two training shards of four records and a validation shard of two. Returns the directory and their sizes."""
    from efficientnet_tpu.data.records.tfrecord_layout import ENCODED_KEY, LABEL_KEY

    root = tmp_path / "shards"
    root.mkdir()
    sizes = {}
    number = 0
    for name, count in (("train-00000-of-00002", 4), ("train-00001-of-00002", 4), ("validation-00000-of-00001", 2)):
        sizes[name] = []
        with tf.io.TFRecordWriter(str(root / name)) as writer:
            for index in range(count):
                features = {
                    ENCODED_KEY: tf.train.Feature(bytes_list=tf.train.BytesList(value=[_jpeg(number)])),
                    LABEL_KEY: tf.train.Feature(int64_list=tf.train.Int64List(value=[1 + index % 2])),
                }
                record = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
                writer.write(record)
                sizes[name].append(len(record) + 16)
                number += 1
    info = {
        "format": 1,
        "label_names": ["cat", "dog"],
        "splits": {
            "train": {"num_images": 8, "shards": [["train-00000-of-00002", 4], ["train-00001-of-00002", 4]]},
            "validation": {"num_images": 2, "shards": [["validation-00000-of-00001", 2]]},
        },
    }
    (root / "dataset.json").write_text(json.dumps(info))
    return root, sizes


def test_damaged_shards_are_named_with_the_offset(check, shards):
    root, sizes = shards
    flipped, cut = root / "train-00000-of-00002", root / "train-00001-of-00002"
    content = bytearray(flipped.read_bytes())
    content[sizes[flipped.name][0] + 100] ^= 1  # in the second record
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-5])
    report, out = check(root, status=1)
    images = report["findings"]["unreadable"]["images"]
    begin, end = sizes[flipped.name][0], sum(sizes[cut.name][:3])
    wrong = f"the file has a wrong checksum in record 1, at byte {begin:,}"
    assert [(image["where"], image["reason"]) for image in images] == [
        *((f"{flipped.name} record {number}", wrong) for number in (1, 2, 3)),
        (f"{cut.name} record 3", f"the file is cut off inside of record 3, at byte {end:,}"),
    ]
    assert f"      {flipped.name} record 1 and the 2 after it: the file has a wrong checksum in record 1" in out
    assert f"      {cut.name} record 3: the file is cut off inside of record 3" in out
    assert report["splits"]["train"]["labels"] == [["cat", 3], ["dog", 1]]


def test_faults_inside_of_records(tf, check, shards):
    """An image that does not decode, a label beyond the classes, no label, and bytes that are no example at all."""
    from efficientnet_tpu.data.records.tfrecord_layout import ENCODED_KEY, LABEL_KEY

    def example(encoded, label):
        features = {ENCODED_KEY: tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))}
        if label is not None:
            features[LABEL_KEY] = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    root, _ = shards
    name = "train-00000-of-00002"
    with tf.io.TFRecordWriter(str(root / name)) as writer:
        for record in (example(b"<html>", 1), example(_jpeg(50), 9), example(_jpeg(51), None), b"\xff\xfe\xba\xad"):
            writer.write(record)
    report, _ = check(root, status=1)
    (strange,) = report["findings"]["strange_labels"]["images"]
    assert (strange["where"], strange["label"]) == (f"{name} record 1", "label 8")
    unreadable = {image["where"]: image["reason"] for image in report["findings"]["unreadable"]["images"]}
    assert list(unreadable) == [f"{name} record {number}" for number in (0, 2, 3)]
    assert unreadable[f"{name} record 0"] == "not an image: starts with b'<html>'"
    assert unreadable[f"{name} record 2"].startswith("cannot be had: ")
    assert "image/class/label" in unreadable[f"{name} record 2"]
    assert unreadable[f"{name} record 3"] == "damaged record"


@pytest.mark.slow
def test_minival_is_a_split_too(check, shards):
    root, _ = shards
    first, validation = (root / name for name in ("train-00000-of-00002", "validation-00000-of-00001"))
    content = validation.read_bytes()
    first.write_bytes(content + content)
    report, _ = check(root, "--minival_percent=50", status=1)
    assert {name: split["num_images"] for name, split in report["splits"].items()} == {
        "train": 4,
        "validation": 2,
        "minival": 4,
    }
    copies = [[copy["split"] for copy in group["copies"]] for group in report["findings"]["leaks"]["images"]]
    assert copies == [["validation", "minival", "minival"]] * 2


def test_a_folder_as_people_have_it(check, tmp_path):
    """Split words, a file server's leavings, links, names without extension and names that are not UTF-8."""
    names = [f"{split}/{name}/{index}.jpg" for split in ("Train", "valid", "TEST") for name in "ab" for index in "12"]
    root = _write(tmp_path / "set", {name: _jpeg(number) for number, name in enumerate(names)})
    _write(
        root,
        {"Train/a/3.JFIF": _jpeg(20), "Train/a/plain": _jpeg(21), "Train/b/scan.tif": b"II*\0", "Train/x.heic": b""},
    )
    _write(
        root,
        {"Train/a/@eaDir/1.jpg/THUMB_M.jpg": _jpeg(22), "Train/b/._1.jpg": b"Mac OS X", "@eaDir/a/1.jpg": _jpeg(23)},
    )
    (root / "Train" / "b" / "loop").symlink_to(root)
    (root / "Train" / "c").symlink_to(root / "Train" / "a")
    for folder in (b"", b"/Train/b"):
        with open(os.fsencode(root) + folder + b"/caf\xe9.jpg", "wb") as file:
            file.write(_jpeg(24))
    report, out = check(root, status=0)
    assert report["findings"] == {}
    assert {name: split["labels"] for name, split in report["splits"].items()} == {
        "train": [["a", 4], ["b", 2]], "validation": [["a", 2], ["b", 2]], "test": [["a", 2], ["b", 2]],
    }  # fmt: skip
    left_out = next(line for line in out.splitlines() if line.startswith("left out: "))
    for words in ("1 .heic", "1 .tif (TIFF)", r"2 with a name that is not UTF-8 (caf\xe9.jpg)", "2 read already under"):
        assert words in left_out


def test_a_set_to_measure_on_is_checked_too(check, tmp_path):
    root = _write(tmp_path / "set", {f"val/{name}/1.jpg": _jpeg(ord(name)) for name in "ab"})
    report, _ = check(root, status=0)
    assert {name: split["num_images"] for name, split in report["splits"].items()} == {"validation": 2}


@pytest.mark.parametrize("name", ["none/report.json", "directory"])
def test_a_report_that_cannot_be_written_is_refused_at_once(tf, tmp_path, name, monkeypatch):
    from efficientnet_tpu import cli
    from efficientnet_tpu.data_inspection import check_data

    monkeypatch.setattr(check_data, "open_splits", lambda config: pytest.fail("began"))
    (tmp_path / "directory").mkdir()
    with pytest.raises(UserError, match=f"--report={tmp_path / name}: "):
        cli.main(["main.py", "check-data", f"--data_dir={tmp_path}", f"--report={tmp_path / name}"])
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_bad_usage_has_status_2(tf, tmp_path, capsys):
    from efficientnet_tpu import cli

    with pytest.raises(SystemExit) as stopped:
        cli.run(["main.py", "check-data", f"--data_dir={tmp_path / 'none'}"])
    assert stopped.value.code == 2
    assert "does not exist" in capsys.readouterr().err


def test_progress(tf, tmp_path, monkeypatch, check):
    from efficientnet_tpu.display import terminal

    monkeypatch.setattr(terminal, "SECONDS_PER_LINE", 0.0)
    files = _clean() | {"train/cat/9.jpg": b""}
    _, out = check(_write(tmp_path / "photos", files), status=1)
    lines = [line for line in out.splitlines() if line.startswith("train: ")]
    assert len(lines) == 7
    assert lines[-1].startswith("train: 7/7 images  1 unreadable  ")
    assert lines[-1].endswith(" images/s  0 s to go")


@pytest.mark.slow
def test_memory_does_not_hold_the_images(tf, tmp_path, check):
    """Some 40 bytes an image are kept; the images are 8 MB here."""
    import tracemalloc

    large = encode(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8), "BMP")
    files = _clean() | {f"train/cat/{index}.bmp": large[:-1] + bytes([index]) for index in range(30)}
    root = _write(tmp_path / "photos", files)
    check(root, status=0)
    tracemalloc.start()
    check(root, status=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


@pytest.mark.slow
def test_the_embedded_sample_is_clean(check):
    report, _ = check("", "--dataset=sample", status=0)
    assert report["findings"] == {}
