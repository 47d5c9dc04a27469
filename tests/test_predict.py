"""Classifying files: which files, in which form, and what happens to those that are no image."""

import csv
import io
import json
import os
import threading
import types
import weakref

import numpy as np
import pytest

from efficientnet_tpu.config.commands import OUTPUT_FORMATS
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.display import terminal
from efficientnet_tpu.errors import UserError

LABELS = ("ape", "bee", "cow", "dog")


@pytest.fixture(scope="module")
def predict(tf):
    from efficientnet_tpu import predict

    return predict


def _brightness(pixels):
    """Probabilities of the four classes, by the brightness of the first pixel: level 0..3 is the winner's number."""
    level = int(pixels[0, 0, 0]) // 64
    probabilities = np.full(4, 0.1)
    probabilities[level], probabilities[(level + 1) % 4] = 0.6, 0.2
    return probabilities


@pytest.fixture
def model(tf):
    """A classifier that looks at one pixel, and keeps the sizes of the batches it was given."""
    from efficientnet_tpu.exporting.classifier import Classifier

    batches = []

    def probabilities(contents):
        batches.append(len(contents))
        images = [tf.io.decode_image(content, channels=3, expand_animations=False).numpy() for content in contents]
        return tf.constant(np.stack([_brightness(image) for image in images]), tf.float32)

    classifier = Classifier(LABELS, probabilities)
    object.__setattr__(classifier, "batches", batches)
    return classifier


@pytest.fixture
def photos(tf, tmp_path):
    """photos/{0,1,2,3}.png, of which number i is class i; photos/deep/4.jpg of class 0, and a text file."""
    root = tmp_path / "photos"
    (root / "deep").mkdir(parents=True)
    for level in range(4):
        (root / f"{level}.png").write_bytes(tf.io.encode_png(np.full((9, 5, 3), level * 64 + 32, np.uint8)).numpy())
    (root / "deep" / "4.jpg").write_bytes(tf.io.encode_jpeg(np.full((9, 5, 3), 32, np.uint8)).numpy())
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def run(predict, model, monkeypatch):
    """run(*words, flag=value, ...): predict_paths with the fake classifier in place of a run's."""
    monkeypatch.setattr(predict.classifier, "load_serving", lambda config: types.SimpleNamespace(note=""))
    monkeypatch.setattr(predict.classifier, "make_classifier", lambda serving, num_images: model)
    return lambda *words, **options: predict.predict_paths(
        with_options(Config(), options), [str(word) for word in words]
    )


def _relative(paths, root):
    return [path.removeprefix(f"{root}/") for path in paths]


def test_expand_takes_files_folders_and_globs_each_once_in_order(predict, photos):
    assert _relative(predict.expand([str(photos)]), photos) == ["0.png", "1.png", "2.png", "3.png", "deep/4.jpg"]
    words = [f"{photos}/2.png", f"{photos}/[01].png", str(photos / "deep"), f"{photos}/2.png", f"{photos}/*.png"]
    assert _relative(predict.expand(words), photos) == ["2.png", "0.png", "1.png", "deep/4.jpg", "3.png"]


def test_a_file_is_taken_at_its_word_whatever_its_name(predict, photos):
    (photos / "odd[1]*name").write_bytes((photos / "0.png").read_bytes())
    assert _relative(predict.expand([f"{photos}/odd[1]*name"]), photos) == ["odd[1]*name"]


@pytest.mark.parametrize("word", ["none.jpg", "*.bmp", "empty"])
def test_a_word_that_names_nothing_is_refused(predict, photos, word):
    (photos / "empty").mkdir()
    with pytest.raises(UserError) as error:
        predict.expand([f"{photos}/0.png", f"{photos}/{word}"])
    assert str(error.value) == f"{photos}/{word}: no such file, folder with images, or glob with a match."


@pytest.mark.parametrize(("batch_size", "batches"), [(2, [2, 2, 1]), (5, [5]), (100, [5])])
def test_batches(run, model, photos, capsys, batch_size, batches):
    run(photos, eval_batch_size=batch_size, format="json")
    assert model.batches == batches
    winners = [prediction["classes"][0] for prediction in json.loads(capsys.readouterr().out)]
    assert winners == ["ape", "bee", "cow", "dog", "ape"]


@pytest.mark.parametrize(("top_k", "classes"), [(1, ["bee"]), (2, ["bee", "cow"]), (9, ["bee", "cow", "ape", "dog"])])
def test_top_k_of_as_many_classes_as_there_are(run, photos, capsys, top_k, classes):
    run(photos / "1.png", top_k=top_k, format="json")
    [prediction] = json.loads(capsys.readouterr().out)
    assert prediction["classes"] == classes
    assert prediction["probabilities"] == pytest.approx([0.6, 0.2, 0.1, 0.1][: len(classes)])


def test_text(run, photos, capsys):
    run(photos / "deep" / "4.jpg", photos / "3.png", top_k=2)
    width = len(f"{photos}/deep/4.jpg")
    assert capsys.readouterr().out == (
        f"{photos}/deep/4.jpg  ape 60.0%  bee 20.0%\n{f'{photos}/3.png':<{width}}  dog 60.0%  ape 20.0%\n"
    )


def test_csv(run, photos, capsys):
    (photos / 'a,"b".png').write_bytes((photos / "0.png").read_bytes())
    run(photos / 'a,"b".png', photos / "1.png", top_k=2, format="csv")
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [
        ["path", "rank", "class", "probability"],
        [f'{photos}/a,"b".png', "1", "ape", "0.600000"],
        [f'{photos}/a,"b".png', "2", "bee", "0.200000"],
        [f"{photos}/1.png", "1", "bee", "0.600000"],
        [f"{photos}/1.png", "2", "cow", "0.200000"],
    ]


def test_every_format_has_a_writer(predict):
    assert tuple(predict.prediction_outputs.FORMS) == OUTPUT_FORMATS


def test_json_is_what_a_list_is(run, photos, capsys):
    run(photos, format="json", eval_batch_size=2)
    written = capsys.readouterr().out
    assert written == json.dumps(json.loads(written), indent=1) + "\n"


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_an_interruption_keeps_what_is_done_and_says_how_far_it_came(run, model, photos, capsys, form):
    classify = model.classify
    object.__setattr__(
        model, "classify", lambda contents: classify(contents) if len(model.batches) < 2 else _interrupt()
    )
    with pytest.raises(SystemExit) as ended:
        run(photos, format=form, top_k=1, eval_batch_size=2)
    assert ended.value.code == 130
    captured = capsys.readouterr()
    assert "interrupted after 4 of 5 files; what is printed is complete so far" in captured.err
    if form == "json":
        assert [row["classes"] for row in json.loads(captured.out)] == [["ape"], ["bee"], ["cow"], ["dog"]]
    else:
        assert [line for line in captured.out.splitlines() if "3.png" in line]
        assert captured.out.endswith("\n")


def _interrupt():
    raise KeyboardInterrupt


def test_results_come_batch_by_batch(run, model, photos, capsys):
    """What the first batch gave is printed before the second is classified."""
    seen = []
    classify = model.classify
    object.__setattr__(model, "classify", lambda contents: seen.append(capsys.readouterr().out) or classify(contents))
    run(photos, format="csv", top_k=1, eval_batch_size=2)
    assert ["0.png" in text for text in seen] == [False, True, False]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<html>", "not an image: starts with b'<html>'"),
        (b"\x89PNG\r\n\x1a\n but no more", "truncated PNG"),
    ],
)
def test_files_that_are_no_image_are_named_and_the_others_classified(run, photos, capsys, content, reason):
    (photos / "bad.png").write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        run(photos, format="json")
    captured = capsys.readouterr()
    left_out, speed, *lines = captured.err.splitlines()
    assert left_out == "left out: 1 .txt"
    assert speed.startswith("5 images in ")
    assert speed.endswith(" images/s")
    assert lines == [f"cannot be read: {photos}/bad.png: {reason}", "1 of 6 files cannot be read"]
    assert len(json.loads(captured.out)) == 5
    assert ended.value.code == 1


def _batches(predict, classifier, paths, on_unreadable, first=2, largest=4):
    from efficientnet_tpu.data.decoding.image_batches import BatchSize

    return predict.prepared_batches(classifier, [str(path) for path in paths], BatchSize(first, largest), on_unreadable)


def test_a_model_that_prepares_decodes_each_file_once(tf, predict, photos, monkeypatch):
    """Only where preparing fails are the files of that batch decoded again, and the damaged ones left out."""
    from efficientnet_tpu.data.decoding import unreadable_reason
    from efficientnet_tpu.exporting.classifier import Classifier

    decoded, opened = [], []
    decode, read = unreadable_reason.image_format.decode, unreadable_reason.tf.io.gfile.GFile
    monkeypatch.setattr(
        unreadable_reason.image_format, "decode", lambda *given: decoded.append(len(decoded)) or decode(*given)
    )
    monkeypatch.setattr(
        unreadable_reason.tf.io.gfile, "GFile", lambda path, *mode: opened.append(path) or read(path, *mode)
    )

    def prepare(contents):
        return tf.stack([tf.io.decode_image(content, channels=3, expand_animations=False) for content in contents])

    classifier = Classifier(LABELS, None, prepare)
    paths = sorted(photos.glob("*.png"))
    found = list(_batches(predict, classifier, paths, None))
    assert [batch.images.shape[0] for batch in found] == [2, 2]
    assert decoded == []
    assert sorted(opened) == [str(path) for path in paths]

    broken = bytearray(paths[1].read_bytes())
    broken[40] ^= 0xFF  # amid the pixels: the header and the end are whole
    paths[1].write_bytes(broken)
    unreadable = []
    found = list(_batches(predict, classifier, paths, unreadable.append))
    assert [batch.paths for batch in found] == [[str(paths[0])], [str(paths[2]), str(paths[3])]]
    assert unreadable == [f"{paths[1]}: damaged PNG"]
    assert len(decoded) == 2


def test_a_file_without_its_end_is_looked_at_before_it_is_prepared(tf, predict, photos):
    """The part that a network sees may be whole."""
    from efficientnet_tpu.exporting.classifier import Classifier

    path = photos / "deep" / "4.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    unreadable = []
    classifier = Classifier(LABELS, None, lambda contents: contents)
    assert list(_batches(predict, classifier, [path], unreadable.append)) == []
    assert unreadable == [f"{path}: truncated JPEG"]


def test_the_order_is_that_of_the_arguments_however_long_reading_takes(predict, photos, monkeypatch):
    """Of a hundred files, the first take longest to be read."""
    from efficientnet_tpu.data.decoding import image_batches
    from efficientnet_tpu.exporting.classifier import Classifier

    read = image_batches.read_image_file
    names = [f"{photos}/{number % 4}.png" for number in range(100)]
    turn = threading.Event()

    def slowly(path, decodes):
        if path.endswith("0.png"):
            turn.wait(0.002)
        return read(path, decodes)

    monkeypatch.setattr(image_batches, "read_image_file", slowly)
    classifier = Classifier(LABELS, None, lambda contents: contents)
    found = list(_batches(predict, classifier, names, None, first=7, largest=7))
    assert [path for batch in found for path in batch.paths] == names


def test_memory_stays_flat(predict, photos):
    """Of many files, no more than a few batches are there at a time, whatever has been classified before."""
    from efficientnet_tpu.exporting.classifier import Classifier

    alive = weakref.WeakSet()

    class Images(list):
        pass

    def prepare(contents):
        images = Images(contents)
        alive.add(images)
        return images

    Images.__hash__ = object.__hash__
    most = 0
    names = [f"{photos}/0.png"] * 500
    for _ in predict.one_ahead(_batches(predict, Classifier(LABELS, None, prepare), names, None, 4, 4)):
        most = max(most, len(alive))
    assert 0 < most <= 4


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_file_in_place_of_stdout(run, photos, tmp_path, capsys, ending):
    (photos / "bad.png").write_bytes(b"")
    with pytest.raises(SystemExit):  # the status says that a file is missing; the others are there
        run(photos, output=f"{tmp_path}/found.{ending}", top_k=1, eval_batch_size=2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{tmp_path}/found.{ending}: 5 images" in captured.err
    assert [path.name for path in tmp_path.glob("found*")] == [f"found.{ending}"]


def test_embeddings_have_a_row_for_each_line_of_the_output(run, model, photos, tmp_path, capsys):
    object.__setattr__(
        model,
        "embed",
        lambda contents: (model.classify(contents), np.float32([[len(content), 7] for content in contents])),
    )
    (photos / "1.png").write_bytes(b"")
    with pytest.raises(SystemExit):
        run(photos, embeddings=f"{tmp_path}/rows.npy", output=f"{tmp_path}/found.jsonl", eval_batch_size=2)
    paths = [json.loads(line)["path"] for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    rows = np.load(tmp_path / "rows.npy")
    assert rows.dtype == np.float32
    assert rows.tolist() == [[os.path.getsize(path), 7] for path in paths]
    assert len(paths) == 4
    assert f"{tmp_path}/rows.npy: 4 images" in capsys.readouterr().err


def test_embeddings_of_an_old_export_are_refused(run, predict, model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(predict.formats, "load_exported", lambda path, trust: model)
    with pytest.raises(UserError, match="gives no features"):
        run(photos, embeddings=f"{tmp_path}/rows.npy", saved_model="old")


def test_what_an_interruption_leaves_is_not_taken_for_whole(run, model, photos, tmp_path, capsys):
    classify = model.classify
    object.__setattr__(
        model, "classify", lambda contents: classify(contents) if len(model.batches) < 2 else _interrupt()
    )
    with pytest.raises(SystemExit):
        run(photos, output=f"{tmp_path}/found.jsonl", eval_batch_size=2)
    assert (
        f"interrupted after 4 of 5 files; {tmp_path}/found.jsonl.partial is complete so far" in capsys.readouterr().err
    )
    assert [path.name for path in tmp_path.glob("found*")] == ["found.jsonl.partial"]
    assert len((tmp_path / "found.jsonl.partial").read_text().splitlines()) == 4


def test_many_unreadable_files_are_named_before_the_end(predict, capsys, monkeypatch):
    monkeypatch.setattr(predict, "_MOST_KEPT", 3)
    unreadable = predict.Unreadable()
    for number in range(4):
        unreadable.add(f"{number}: damaged")
    assert capsys.readouterr().err.splitlines() == [f"cannot be read: {number}: damaged" for number in range(3)]
    unreadable.print_kept()
    assert capsys.readouterr().err == "cannot be read: 3: damaged\n"
    assert unreadable.count == 4


def test_a_picture_has_the_first_images(predict, run, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predict.prediction_outputs.prediction_grid, "MOST_TILES", 3)
    run(photos, picture=f"{tmp_path}/grid.png", eval_batch_size=2)
    assert f"{tmp_path}/grid.png: the first 3 images with their predictions" in capsys.readouterr().err


def test_a_list_on_stdin(run, photos, capsys, monkeypatch):
    lines = [f"{photos}/1.png", "", f"{photos}/gone.png", f"{photos}/deep", f"{photos}/1.png"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    with pytest.raises(SystemExit) as ended:
        run("-", format="json", top_k=1)
    captured = capsys.readouterr()
    assert [row["path"] for row in json.loads(captured.out)] == [f"{photos}/1.png", f"{photos}/deep/4.jpg"]
    assert f"cannot be read: {photos}/gone.png: no such file" in captured.err
    assert "1 of 3 files cannot be read" in captured.err
    assert ended.value.code == 1


def test_an_empty_list_on_stdin(run, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(UserError, match="no file is named on stdin"):
        run("-")


def test_progress_of_many_files(predict, run, photos, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "SECONDS_PER_LINE", 0.0)
    (photos / "0.png").write_text("no image")
    with pytest.raises(SystemExit):
        run(photos, eval_batch_size=2, format="csv")
    _, *lines = capsys.readouterr().err.splitlines()  # the first counts what is no image
    # The unreadable file comes first: it and a batch of two.
    for line, done in zip(lines, (3, 5), strict=False):
        assert f" {done}/5 images  1 unreadable  " in line
        assert " images/s  " in line
    assert lines[2].startswith("4 images in ")


def test_one_image_is_no_measurement(run, photos, capsys):
    run(photos / "1.png")
    assert capsys.readouterr().err == ""


def test_maps_need_the_run(run, photos, tmp_path):
    with pytest.raises(UserError, match=r"--cam=.*/maps: needs the network's features.*--model_dir"):
        run(photos, cam=f"{tmp_path}/maps", saved_model="somewhere")


def test_a_glob_may_match_folders(run, photos, capsys):
    with pytest.raises(SystemExit):
        run(f"{photos}/*", format="json")
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 4
    assert f"cannot be read: {photos}/notes.txt: " in captured.err


@pytest.mark.parametrize("picture", [False, True])
def test_no_image_at_all_is_an_error(run, photos, tmp_path, picture):
    options = {"picture": f"{tmp_path}/grid.png"} if picture else {}
    with pytest.raises(UserError, match=f"{photos}/notes.txt: none of the 1 files is a readable image"):
        run(photos / "notes.txt", **options)
    assert not (tmp_path / "grid.png").exists()


@pytest.mark.parametrize(("count", "grid_shape"), [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (5, (2, 3))])
def test_picture(predict, run, photos, tmp_path, capsys, count, grid_shape):
    from PIL import Image

    from efficientnet_tpu.display.image_grid import MARGIN, TEXT

    columns, rows = grid_shape
    paths = sorted(path for path in photos.rglob("*") if path.suffix in (".png", ".jpg"))[:count]
    run(*paths, picture=f"{tmp_path}/grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.format == "PNG"
        pitch, tile = 160 + MARGIN, 160 + 2 * (TEXT + 4) + MARGIN
        assert grid.size == (columns * pitch + MARGIN, rows * tile)
        pixels = np.asarray(grid)
    for index, path in enumerate(paths):
        top, left = index // columns * tile, index % columns * pitch + MARGIN
        level = int(path.stem) % 4 * 64 + 32
        assert pixels[top + 100, left + 80] == pytest.approx([level] * 3, abs=2)
        caption = pixels[top + 161 : top + tile, left : left + 160]
        assert (caption < 128).any()
    assert "grid.png" in capsys.readouterr().err


@pytest.mark.webp
@pytest.mark.slow
def test_turned_and_transparent_pictures_are_classified_as_they_are_seen(
    tf, trained, exported, shapes, tmp_path, capsys
):
    """By a run and by its export: like the upright and the opaque picture. --noexif_orientation looks at the stored."""
    from PIL import Image

    from efficientnet_tpu import cli
    from tests.support.image_files import encode, exif

    first = sorted(path for path in (shapes / "validation").rglob("*.png"))[0]
    upright = Image.open(first).convert("RGB").crop((0, 0, 30, 24))
    # White below what is transparent, and black: white is what is seen.
    opacity = Image.new("L", upright.size, 255)
    opacity.paste(0, (0, 0, 15, 24))
    seen = Image.composite(upright, Image.new("RGB", upright.size, "white"), opacity)
    hidden = Image.composite(upright, Image.new("RGB", upright.size, "black"), opacity)
    hidden.putalpha(opacity)
    files = {
        "1_upright.png": encode(upright, "PNG"),
        "2_turned.png": encode(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif(6)),
        "3_turned.webp": encode(upright.transpose(Image.Transpose.ROTATE_180), "WEBP", lossless=True, exif=exif(3)),
        "4_stored.png": encode(upright.transpose(Image.Transpose.ROTATE_90), "PNG"),
        "5_seen.png": encode(seen, "PNG"),
        "6_transparent.png": encode(hidden, "PNG"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    def classify(*flags):
        cli.main(["main.py", "predict", "--format=json", "--top_k=3", *flags, str(tmp_path)])
        rows = json.loads(capsys.readouterr().out)
        return [dict(zip(row["classes"], row["probabilities"], strict=True)) for row in rows]

    for source in (f"--model_dir={trained}", f"--saved_model={exported}"):
        plain, turned, turned_webp, stored, opaque, transparent = classify(source)
        assert turned == turned_webp == pytest.approx(plain, abs=1e-6)
        assert transparent == pytest.approx(opaque, abs=1e-6)
        assert turned != pytest.approx(stored, abs=1e-4)
    _, turned, _, stored, opaque, transparent = classify(
        f"--model_dir={trained}", "--noexif_orientation", "--background=none"
    )
    assert turned == pytest.approx(stored, abs=1e-6)
    assert transparent != pytest.approx(opaque, abs=1e-4)


@pytest.mark.slow
def test_a_run_and_its_export_classify_alike(predict, trained, exported, shapes, capsys):
    from efficientnet_tpu.run import run_record

    answers = {}
    for source, base in (("model_dir", run_record.load(str(trained)).config), ("saved_model", Config())):
        directory = {"model_dir": trained, "saved_model": exported}[source]
        config = with_options(base, {source: str(directory), "format": "json", "top_k": 1})
        predict.predict_paths(config, [str(shapes / "validation")])
        answers[source] = json.loads(capsys.readouterr().out)
    assert len(answers["model_dir"]) == 15
    for one, other in zip(*answers.values(), strict=True):
        assert (one["path"], one["classes"]) == (other["path"], other["classes"])
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    right = sum(prediction["classes"][0] == prediction["path"].split("/")[-2] for prediction in answers["model_dir"])
    assert right >= 10
