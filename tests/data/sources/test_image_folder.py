import os
import pathlib

import pytest

from efficientnet_tpu.data.sources import image_folder
from efficientnet_tpu.errors import UserError
from tests.support.labelled_images import touch


@pytest.fixture(autouse=True)
def _tensorflow(tf):
    """scan and check_readable list and read through tf.io.gfile."""


def _names(folder, split, root):
    return [(path.removeprefix(f"{root}/"), label) for path, label in folder.splits[split]]


def _flat(root, images_per_class=200):
    return touch(root, *(f"{name}/{i:03d}.jpg" for name in ("cat", "dog") for i in range(images_per_class)))


def test_reads_the_two_split_layout(tmp_path):
    root = touch(tmp_path, "train/dog/a.jpg", "train/cat/b.PNG", "train/cat/a.JPeG", "validation/dog/z.bmp")
    folder = image_folder.scan(root, 10)
    assert folder.label_names == ("cat", "dog")
    assert _names(folder, "train", root) == [("train/cat/a.JPeG", 0), ("train/cat/b.PNG", 0), ("train/dog/a.jpg", 1)]
    assert _names(folder, "validation", root) == [("validation/dog/z.bmp", 1)]


@pytest.mark.parametrize(
    ("folders", "chosen"),
    [
        (["train", "test"], {"train": "train", "validation": "test"}),
        (["train", "test", "val"], {"train": "train", "validation": "val", "test": "test"}),
        (["train", "val", "validation"], {"train": "train", "validation": "validation"}),
        (["train", "valid", "test"], {"train": "train", "validation": "valid", "test": "test"}),
        (["Training", "Testing"], {"train": "Training", "validation": "Testing"}),
        (["TRAIN", "Dev"], {"train": "TRAIN", "validation": "Dev"}),
        (["train", "eval", "Test"], {"train": "train", "validation": "eval", "test": "Test"}),
        (["valid", "test"], {"validation": "valid", "test": "test"}),
        (["val"], {"validation": "val"}),
        (["Testing"], {"test": "Testing"}),
    ],
)
def test_split_folders_as_people_call_them(tmp_path, folders, chosen):
    root = touch(tmp_path, *(f"{folder}/{name}/1.jpg" for folder in folders for name in "ab"))
    files = image_folder.scan(root, 10)
    assert files.words == chosen
    assert files.held_out == ()
    assert files.label_names == ("a", "b")
    assert {split: _names(files, split, root) for split in files.splits} == {
        split: [(f"{folder}/a/1.jpg", 0), (f"{folder}/b/1.jpg", 1)] for split, folder in chosen.items()
    }


@pytest.mark.parametrize(
    ("run", "left_out"),
    [("run", "run"), ("runs/a", "runs/a"), ("", "checkpoints"), ("cat/run", "cat/run")],
)
def test_a_run_among_its_images_is_no_class(tmp_path, run, left_out):
    root = touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    touch(tmp_path / run, "run.json", "checkpoints/checkpoint-1.index", "tensorboard/events", "pictures/errors.txt")
    touch(tmp_path, "cat/2.jpg", "dog/2.jpg")
    files = image_folder.scan(root, 10)
    assert files.label_names == ("cat", "dog")
    assert sum(map(len, files.splits.values())) == 4
    assert f"written by this program ({root}/{left_out})" in files.left_out


def test_a_class_folder_that_is_a_second_name_of_another_is_left_out(tmp_path):
    root = touch(tmp_path, *(f"{name}/{index}.jpg" for name in ("cat", "dog") for index in range(4)))
    (tmp_path / "cats").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "loop").symlink_to(tmp_path)
    files = image_folder.scan(root, 10)
    assert files.label_names == ("cat", "dog")
    assert sum(map(len, files.splits.values())) == 8
    assert files.left_out == {f"read already under another name ({root}/cats)": 2}


@pytest.mark.parametrize("link", ["val", "val/a val/b"])
def test_a_validation_folder_that_leads_to_the_training_images_holds_nothing(tmp_path, link):
    root = touch(tmp_path, *(f"train/{name}/{index}.jpg" for name in "ab" for index in range(9)))
    (tmp_path / "val").mkdir() if "/" in link else None
    for name in link.split():
        (tmp_path / name).symlink_to(tmp_path / name.replace("val", "train"))
    files = image_folder.scan(root, 20)
    assert files.held_out == ("validation",)
    assert files.words == {"train": "train"}
    assert sum(map(len, files.splits.values())) == 18
    assert sum(files.left_out.values()) == len(link.split())


def test_a_class_name_in_both_ways_of_unicode_is_one_class(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    root = touch(tmp_path, f"train/{composed}/1.jpg", f"train/{decomposed}/2.jpg", "train/tea/1.jpg")
    touch(tmp_path, f"val/{decomposed}/3.jpg")
    files = image_folder.scan(root, 10)
    assert files.label_names == (composed, "tea")
    assert [label for _, label in files.splits["train"]] == [0, 0, 1]
    assert _names(files, "validation", root) == [(f"val/{decomposed}/3.jpg", 0)]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["train_set", "test_set"], {"train": "train_set", "validation": "test_set"}),
        (["train-images", "Validation Data", "testset"],
         {"train": "train-images", "validation": "Validation Data", "test": "testset"}),
        (["train", "test1", "test_stg2"], {"train": "train"}),
    ],
)  # fmt: skip
def test_split_words_with_an_ending(tmp_path, folders, splits):
    root = touch(tmp_path, *(f"{folder}/{name}/{index}.jpg" for folder in folders for name in "ab" for index in "12"))
    assert image_folder.scan(root, 50).words == splits


def test_classes_are_sorted_as_numbers_when_all_are(tmp_path):
    root = touch(tmp_path, *(f"{name}/{index}.jpg" for name in ("10", "9", "-1", "2.0", "0") for index in range(2)))
    assert image_folder.scan(root, 10).label_names == ("-1", "0", "2.0", "9", "10")
    touch(tmp_path, "1e3/1.jpg")
    assert image_folder.scan(root, 10).label_names == ("-1", "0", "10", "1e3", "2.0", "9")


def test_test_images_of_other_classes_are_no_test_split(tmp_path):
    """Competitions keep their labels back: test/unknown/*.jpg."""
    root = touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in ("train", "val") for name in "ab"))
    touch(tmp_path, "test/unknown/1.jpg", "test/unknown/2.jpg")
    files = image_folder.scan(root, 10)
    assert set(files.splits) == {"train", "validation"}
    assert files.left_out == {"of test in unknown, a class without training images": 2}
    touch(tmp_path, "test/b/1.jpg")
    assert _names(image_folder.scan(root, 10), "test", root) == [("test/b/1.jpg", 1)]


def test_hidden_and_unreadable_names_are_left_out_and_nested_folders_walked(tmp_path):
    root = touch(
        tmp_path,
        "train/a/1.jpg", "train/a/deep/er/2.gif", "train/a/.hidden.jpg", "train/a/notes.txt", "train/a/.cache/3.jpg",
        "train/b/1.jpg", "train/.git/1.jpg", "train/__MACOSX/1.jpg", "train/b/__MACOSX/2.jpg", "val/b/1.jpg",
    )  # fmt: skip
    folder = image_folder.scan(root, 10)
    assert folder.label_names == ("a", "b")
    assert _names(folder, "train", root) == [("train/a/1.jpg", 0), ("train/a/deep/er/2.gif", 0), ("train/b/1.jpg", 1)]
    assert folder.left_out == {".txt": 1}


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    root = touch(
        tmp_path,
        "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "train/a/x.heic", "train/a/in/y.HEIC", "val/a/list.txt",
        "train/b/README", "train/notes.txt", "train/loose.jpg", "val/z.tar.gz", "about.md", "more/a/1.jpg",
    )  # fmt: skip
    folder = image_folder.scan(root, 10)
    assert folder.left_out == {
        ".gz": 1, ".heic": 2, ".jpg outside the class folders": 1, ".md": 1, ".txt": 2, "folder more": 1,
        "without extension": 1,
    }  # fmt: skip
    assert folder.left_out_line().startswith("left out: 1 .gz, 2 .heic, 1 .jpg outside the class folders, 1 .md")
    assert image_folder.scan(_flat(tmp_path / "clean"), 10).left_out_line() == ""


@pytest.mark.parametrize(
    "extension",
    [pytest.param(one, marks=pytest.mark.webp) if one == ".webp" else one for one in image_folder.EXTENSIONS],
)
def test_every_extension_is_one_that_tensorflow_decodes(tf, tmp_path, extension):
    from PIL import Image

    from efficientnet_tpu.data.decoding.image_header import format_named

    path = tmp_path / f"image{extension}"
    Image.new("RGB", (7, 5), (200, 30, 40)).save(path, format_named(path.name))
    assert tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False).shape == (5, 7, 3)
    image_folder.check_readable([(str(path), 0)])


def test_extensions_count_in_either_letter_case(tmp_path):
    """What TensorFlow decodes is left out under no other extension by chance."""
    root = touch(
        tmp_path / "root",
        *(f"{name}/x{extension.upper()}" for name in "ab" for extension in (*image_folder.EXTENSIONS, ".tif")),
    )
    folder = image_folder.scan(root, 10)
    assert sum(map(len, folder.splits.values())) == 2 * len(image_folder.EXTENSIONS)
    assert folder.left_out == {".tif": 2}
    assert len(image_folder.EXTENSIONS) == 9


def test_names_on_google_cloud_storage(tf, monkeypatch):
    """There a folder's name ends in a slash; no other name is asked for its kind, which would be a request each."""
    tree = {
        "gs://bucket/photos": ["train/", "validation/", "index.html"],
        "gs://bucket/photos/train": ["cat/", "dog/"],
        "gs://bucket/photos/train/cat": ["1.jpg", "2.jpg", "notes.txt", "more/"],
        "gs://bucket/photos/train/cat/more": ["3.jpg"],
        "gs://bucket/photos/train/dog": ["1.jpg"],
        "gs://bucket/photos/validation": ["dog/"],
        "gs://bucket/photos/validation/dog": ["1.jpg", "2.webm"],
    }
    asked = []
    monkeypatch.setattr(tf.io.gfile, "exists", lambda path: True)
    monkeypatch.setattr(tf.io.gfile, "isdir", lambda path: asked.append(path) or path in tree)
    monkeypatch.setattr(tf.io.gfile, "listdir", lambda path: tree[path])
    folder = image_folder.scan("gs://bucket/photos", 10)
    assert [path for path, _ in folder.splits["train"]] == [
        f"gs://bucket/photos/train/{name}.jpg" for name in ("cat/1", "cat/2", "cat/more/3", "dog/1")
    ]
    assert folder.left_out == {".html": 1, ".txt": 1, ".webm": 1}
    assert asked == ["gs://bucket/photos"]


def test_a_name_that_is_not_utf_8(tmp_path):
    root = touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg")
    (pathlib.Path(os.fsdecode(os.fsencode(root) + b"/b/caf\xe9.jpg"))).touch()
    files = image_folder.scan(root, 10)
    assert sum(map(len, files.splits.values())) == 3
    assert files.left_out_line() == r"left out: 1 with a name that is not UTF-8 (caf\xe9.jpg)"


def test_minival(tmp_path):
    root = _flat(tmp_path, images_per_class=500)
    folder = image_folder.scan(root, 10, 20)
    plain = image_folder.scan(root, 10)
    assert folder.splits["validation"] == plain.splits["validation"]
    assert sorted(folder.splits["train"] + folder.splits["minival"]) == list(plain.splits["train"])
    assert len(folder.splits["minival"]) == pytest.approx(180, abs=40)


@pytest.mark.parametrize("percent", [1, 10, 50])
def test_holds_out_about_the_share_asked_for(tmp_path, percent):
    root = _flat(tmp_path, images_per_class=500)
    folder = image_folder.scan(root, percent)
    train, validation = set(folder.splits["train"]), set(folder.splits["validation"])
    assert not train & validation
    assert len(train | validation) == 1000
    assert len(validation) == 10 * percent
    assert list(folder.splits["validation"]) == sorted(validation)
    assert {label for _, label in validation} == {0, 1}


@pytest.mark.parametrize(("hold_out_by", "moved"), [("name", 0), ("class", 2)])
def test_images_stay_in_their_split_when_others_come(tmp_path, hold_out_by, moved):
    """By name all of them, by class but for one of each class that grows."""
    root = _flat(tmp_path)
    before = image_folder.scan(root, 20, 0, hold_out_by)
    touch(tmp_path, "cat/000-new.jpg", "cat/new.jpg", "ape/1.jpg", "ape/2.jpg")
    after = image_folder.scan(root, 20, 0, hold_out_by)
    for split in ("train", "validation"):
        now = {path for path, _ in after.splits[split]}
        assert len([path for path, _ in before.splits[split] if path not in now]) <= moved


def test_split_does_not_depend_on_where_the_folder_is(tmp_path):
    first, second = _flat(tmp_path / "here"), _flat(tmp_path / "there" / "deeper")
    first_names = _names(image_folder.scan(first, 20), "validation", first)
    assert first_names == _names(image_folder.scan(second + "/", 20), "validation", second)


def test_every_class_keeps_a_training_image(tmp_path):
    root = touch(tmp_path, *(f"{name}/only.jpg" for name in "abcdefghijklmnopqrstuvwxyz"), "a/second.jpg", "a/3.jpg")
    folder = image_folder.scan(root, 50)
    assert {label for _, label in folder.splits["train"]} == set(range(26))
    assert len(folder.splits["train"]) + len(folder.splits["validation"]) == 28


def test_train_folder_alone_is_the_training_split(tmp_path):
    root = touch(tmp_path, *(f"train/{name}/{i}.jpg" for name in "ab" for i in range(50)))
    folder = image_folder.scan(root, 20)
    assert folder.label_names == ("a", "b")
    assert folder.splits["validation"]


def test_a_class_may_be_called_train(tmp_path):
    root = touch(tmp_path, *(f"{name}/{i}.jpg" for name in ("train", "bus") for i in range(50)), "train/night/1.jpg")
    assert image_folder.scan(root, 20).label_names == ("bus", "train")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], ["no class folders", "{root}/<class>/*.jpg"]),
        (["1.jpg", "2.jpg"], ["images (1.jpg, ...) but no class folders", "{root}/<class>/*.jpg"]),
        (["cat/1.jpg"], ["single class, cat"]),
        (["train/cat/1.jpg", "val/cat/1.jpg"], ["single class, cat"]),
        (["cat/1.txt", "dog/2.heic"], ["2 class folders but no image", ".jpg .jpeg .jpe .jfif .jif .png .gif"]),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/yak/1.jpg"], ["class yak", "move {root}/val/yak"]),
        (["a/1.jpg", "b/1.jpg", "c/1.txt"], ["in the class folder {root}/c."]),
        (["train/1.jpg", "val/2.jpg"], ["{root}/train has images (1.jpg, ...) but no class", "{root}/train/<class>"]),
        (["Training/a/1.jpg", "Test/a/1.jpg"], ["{root}/Training has a single class, a"]),
    ],
)  # fmt: skip
def test_errors_name_the_flag_the_folder_and_the_problem(tmp_path, files, words):
    root = touch(tmp_path, *files)
    with pytest.raises(UserError) as error:
        image_folder.scan(root, 10)
    message = str(error.value)
    assert message.startswith(f"--data_dir={root}: ")
    for word in words:
        assert word.format(root=root) in message


def test_missing_folder_and_file_are_refused(tmp_path):
    with pytest.raises(UserError, match=f"--data_dir={tmp_path}/none: does not exist"):
        image_folder.scan(f"{tmp_path}/none", 10)
    touch(tmp_path, "file")
    with pytest.raises(UserError, match=f"--data_dir={tmp_path}/file: is a file"):
        image_folder.scan(f"{tmp_path}/file", 10)


def test_unreachable_bucket(tf, monkeypatch):
    def exists(path):
        raise tf.errors.FailedPreconditionError(None, None, "could not resolve host")

    monkeypatch.setattr(tf.io.gfile, "exists", exists)
    with pytest.raises(UserError, match="--data_dir=gs://bucket/images: cannot be reached: could not resolve host"):
        image_folder.scan("gs://bucket/images", 10)


def test_too_few_images_to_hold_any_out(tmp_path):
    root = touch(tmp_path, "a/1.jpg", "b/1.jpg")
    with pytest.raises(UserError, match=f"--data_dir={root}: 2 images, one of each class, leave none to validate on"):
        image_folder.scan(root, 50)


def _write(path, content):
    path.write_bytes(content)
    return (str(path), 0)


@pytest.mark.parametrize(
    "head", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBP"]
)
def test_one_readable_image_is_enough(tmp_path, head):
    image_folder.check_readable([_write(tmp_path / "a.jpg", b""), _write(tmp_path / "b.jpg", head + b"rest")])


def test_no_readable_image(tmp_path):
    examples = [_write(tmp_path / f"{i:03d}.jpg", b"<html>not found</html>") for i in range(100)]
    with pytest.raises(UserError, match=r"--data_dir has no readable image: 5 files looked at.*000\.jpg"):
        image_folder.check_readable(examples, sample=5)


def test_images_that_are_not_there():
    examples = [(f"/none/{i}.jpg", 0) for i in range(20)]
    with pytest.raises(
        UserError, match=r"16 files looked at, none can be opened, for example /none/0\.jpg, .*the paths"
    ):
        image_folder.check_readable(examples)


def test_sample_is_spread_over_the_examples(tmp_path):
    examples = [_write(tmp_path / f"{i:03d}.jpg", b"GIF89a" if i >= 50 else b"no") for i in range(100)]
    image_folder.check_readable(examples, sample=4)


@pytest.mark.parametrize("percent", [1, 10, 50])
def test_every_class_is_validated_and_trained_on(tmp_path, percent):
    root = touch(
        tmp_path, *(f"{name}/{index}.jpg" for name, count in (("a", 2), ("b", 3), ("c", 40)) for index in range(count))
    )
    folder = image_folder.scan(root, percent)
    for examples in folder.splits.values():
        assert {label for _, label in examples} == {0, 1, 2}
