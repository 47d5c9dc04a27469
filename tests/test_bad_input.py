"""What cannot work is refused before anything slow starts, by a message that names flag, value and way out."""

import os
import shutil

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.errors import UserError


def _copy(source, root, rename):
    """The image folder `source`, its classes renamed or, if not among `rename`, left out."""
    for split in ("train", "validation"):
        for name, new_name in rename.items():
            shutil.copytree(source / split / name, root / split / new_name)


@pytest.fixture(scope="module")
def places(shapes, trained, tmp_path_factory):
    """What the table's command lines name in braces."""
    root = tmp_path_factory.mktemp("bad")
    (root / "empty").mkdir()
    for name in ("pipe", "pipe.csv"):
        os.mkfifo(root / name)
    (root / "file").write_text("precious")
    _copy(shapes, root / "one_class", {"circle": "circle"})
    _copy(shapes, root / "two_classes", {"circle": "circle", "square": "square"})
    _copy(shapes, root / "renamed", {"circle": "ring", "square": "square", "triangle": "triangle"})
    _copy(shapes, root / "broken_validation", {"circle": "circle", "square": "square"})
    shutil.rmtree(root / "broken_validation" / "validation" / "square")
    (root / "broken_validation" / "validation" / "circle" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    for name in ("cat", "dog"):
        (root / "garbage" / name).mkdir(parents=True)
        for index in range(30):
            (root / "garbage" / name / f"{index}.jpg").write_bytes(b"<html>404 not found</html>")
    shutil.copytree(trained, root / "no_checkpoint", ignore=shutil.ignore_patterns("checkpoints"))
    shutil.copytree(trained, root / "damaged")
    for path in (root / "damaged" / "checkpoints").glob("*.data-*"):
        path.write_bytes(path.read_bytes()[:1000])
    return {"root": root, "shapes": shapes, "trained": trained}


NANO = "--model=efficientnet-nano"
# id: command line, beginning of the message, advice in it.
TABLE = {
    "unknown command": ("trian", "trian: no such command.", "Commands: train_and_eval"),
    "unknown flag": ("--xyz=3", "--xyz: no such flag.", "`python main.py --helpfull` lists them"),
    "mistyped flag": ("--train_batchsize=3", "--train_batchsize: no such flag.", "Did you mean --train_batch_size?"),
    "unknown model": (
        "--model=efficientnet-b9 --model_dir={root}/new --data_dir={shapes}",
        "--model=efficientnet-b9: no such model.",
        "Did you mean efficientnet-b8?",
    ),
    "no model_dir": ("--data_dir={shapes}", "--model_dir is missing.", "Directory of the run"),
    "no data": ("--model_dir={root}/new", "--data_dir is missing", "--dataset=sample"),
    "data_dir that does not exist": (
        "--model_dir={root}/new --data_dir={root}/none",
        "--data_dir={root}/none: does not exist.",
        "Lay the images out as",
    ),
    "data_dir that is a file": (
        "--model_dir={root}/new --data_dir={root}/file",
        "--data_dir={root}/file: is a file, not a folder.",
        "Lay the images out as",
    ),
    "empty data_dir": (
        "--model_dir={root}/new --data_dir={root}/empty",
        "--data_dir={root}/empty: {root}/empty has no class folders.",
        "Lay the images out as",
    ),
    "data_dir with one class": (
        "--model_dir={root}/new --data_dir={root}/one_class",
        "--data_dir={root}/one_class: {root}/one_class/train has a single class, circle;",
        "needs two or more",
    ),
    "data_dir without a readable image": (
        "--model_dir={root}/new --data_dir={root}/garbage",
        "--data_dir has no readable image: 16 files looked at",
        "Convert them to JPEG or PNG.",
    ),
    "unknown data set": (
        "--model_dir={root}/new --dataset=tfds:cifar11 --data_dir={root}/empty",
        "--dataset=tfds:cifar11: TFDS has no such set.",
        "Did you mean cifar1",
    ),
    "batch that does not divide": (
        "--model_dir={root}/new --data_dir={shapes} --virtual_replicas=4 --train_batch_size=6",
        "--train_batch_size=6: does not divide over 4 devices.",
        "Use 4 or 8.",
    ),
    "evaluation batch that does not divide": (
        "--model_dir={root}/new --data_dir={shapes} --virtual_replicas=4 --eval_batch_size=3",
        "--eval_batch_size=3: does not divide over 4 devices.",
        "Use 4.",
    ),
    "resolution that is too small": (
        "--model_dir={root}/new --data_dir={shapes} --resolution=8",
        "--resolution=8: five layers halve the image",
        "at least 16 pixels",
    ),
    "validation images that cannot be read": (
        "--model_dir={root}/new --data_dir={root}/broken_validation",
        "--data_dir={root}/broken_validation: 1 of 6 validation images cannot be read, and evaluation skips none:\n"
        "  {root}/broken_validation/validation/circle/broken.png: truncated PNG\n",
        "--novalidation_scan",
    ),
    "flags in a pipe": ("--flagfile={root}/pipe", "--flagfile={root}/pipe: is a named pipe,", "Copy what it gives"),
    "weights from a device": (
        "import-weights --from=/dev/zero --output_dir={root}/imported",
        "/dev/zero: is a device",
        "",
    ),
    "class weights in a pipe": (
        "--model_dir={root}/new --data_dir={shapes} --class_weights={root}/pipe.csv",
        "--class_weights={root}/pipe.csv: is a named pipe,",
        "Copy what it gives",
    ),
    "another model": (
        "--model_dir={trained} --model=efficientnet-b0",
        "--model=efficientnet-b0: the checkpoints in --model_dir={trained} were made with model=efficientnet-nano.",
        "another --model_dir",
    ),
    "another width": (
        "--model_dir={trained} --width_coefficient=0.5",
        "--width_coefficient=0.5: the checkpoints in --model_dir={trained}",
        "another --model_dir",
    ),
    "evaluate another model": (
        "evaluate --model_dir={trained} --model=efficientnet-b0",
        "--model=efficientnet-b0: the checkpoints in --model_dir={trained}",
        "another --model_dir",
    ),
    "export another width": (
        "export --model_dir={trained} --width_coefficient=0.5 --output_dir={root}/export",
        "--width_coefficient=0.5: the checkpoints in --model_dir={trained} were made with width_coefficient left to",
        "Use that, or another --model_dir.",
    ),
    "train on other classes": (
        "--model_dir={trained} --data_dir={root}/renamed",
        "--data_dir={root}/renamed: 1 of its 3 classes (ring) are not among the 3 of the run in --model_dir={trained}, "
        "which also has circle",
        "Use that data, or another --model_dir.",
    ),
    "train on fewer classes": (
        "--model_dir={trained} --data_dir={root}/two_classes",
        "--data_dir={root}/two_classes: has 2 of the 3 classes of the run in --model_dir={trained}, and lacks triangle",
        "Use that data, or another --model_dir.",
    ),
    "evaluate another data set": (
        "evaluate --model_dir={trained} --dataset=sample",
        "--dataset=sample: 10 of its 10 classes",
        "Use that data, or another --model_dir.",
    ),
    "model_dir that cannot be written": (
        "--model_dir={root}/file/run --data_dir={shapes}",
        "--model_dir={root}/file/run: cannot be written: ",
        "Choose another directory.",
    ),
    "no TPU": (
        "--model_dir={root}/new --data_dir={shapes} --tpu=local",
        "--tpu=local: no TPU on this machine: ",
        "Without --tpu it trains on what there is.",
    ),
    "evaluate without a run": (
        "evaluate --model_dir={root}/empty",
        "--model_dir={root}/empty: no trained run here",
        "Train one first.",
    ),
    "export without a run": (
        "export --model_dir={root}/none --output_dir={root}/export",
        "--model_dir={root}/none: no trained run here",
        "Train one first.",
    ),
    "evaluate before the first checkpoint": (
        "evaluate --model_dir={root}/no_checkpoint --checkpoint=last",
        "--model_dir={root}/no_checkpoint: the run has no last checkpoint yet.",
        "",
    ),
    "evaluate a damaged checkpoint": (
        "evaluate --model_dir={root}/damaged --checkpoint=last",
        "{root}/damaged/checkpoints/ckpt-30: cannot be read (Read less bytes than requested)",
        "Restore the files, or try --checkpoint=best.",
    ),
    "train on from a damaged checkpoint": (
        "--model_dir={root}/damaged --train_epochs=11",
        "{root}/damaged/checkpoints/ckpt-30: cannot be read (Read less bytes than requested)",
        "Restore the files, or try --checkpoint=best.",
    ),
    "export to where something is": (
        "export --model_dir={trained} --output_dir={root}/empty",
        "--output_dir={root}/empty: exists already.",
        "Choose a new directory",
    ),
    "export to where nothing can be": (
        "export --model_dir={trained} --output_dir={root}/file/export",
        "--output_dir={root}/file/export: cannot be written",
        "Choose another directory.",
    ),
    "predict without a SavedModel": (
        "predict --saved_model={root}/empty {shapes}/train/circle/00.png",
        "--saved_model={root}/empty: no SavedModel here.",
        "`python main.py export` writes one.",
    ),
    "predict without a model": ("predict {shapes}/train", "predict: name one model", "--saved_model"),
    "predict a file that does not exist": (
        "predict --model_dir={trained} {root}/none.jpg",
        "{root}/none.jpg: no such file, folder with images, or glob with a match.",
        "",
    ),
    "make-tfrecords of nothing": (
        "make-tfrecords --data_dir={root}/none --output_dir={root}/shards",
        "--data_dir={root}/none: does not exist.",
        "Lay the images out as",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_training(tf, monkeypatch):
    from efficientnet_tpu import train

    def fail(*arguments):
        pytest.fail("training began")

    monkeypatch.setattr(train, "make_train_step", fail)


@pytest.mark.parametrize("case", TABLE)
def test_is_refused_at_once_with_advice(places, case):
    line, beginning, advice = (text.format(**places) for text in TABLE[case])
    before = set(places["root"].rglob("*"))
    with pytest.raises(UserError) as error:
        cli.main(["main.py", *line.split()])
    message = str(error.value)
    assert message.startswith(beginning), message
    assert advice in message, message
    left_behind = set(places["root"].rglob("*")) - before
    assert {path.name for path in left_behind} <= {"new"}  # an empty model_dir, at most
