"""What needs no TensorFlow is refused, or answered, without it."""

import json
import subprocess
import sys

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.commands.table import COMMANDS
from efficientnet_tpu.config.config import Config, run_options, with_options
from efficientnet_tpu.errors import UserError

EVALUATION = {"epoch": 1, "loss": 1.5, "top_1_accuracy": 0.5, "top_5_accuracy": 1.0, "num_images": 8}


def make_run(model_dir, steps=(2, 4), damage="", **options):
    """A run of 16 images in batches of 4, evaluated and saved at each of `steps`."""
    config = with_options(
        Config(), {"train_batch_size": 4, "train_epochs": 1.0, "model_dir": str(model_dir), "data_dir": "/x"} | options
    )
    (model_dir / "checkpoints").mkdir(parents=True)
    content = {"label_names": ["a", "b"], "data_fingerprint": "0", "num_train_images": 16, "starts": []}
    (model_dir / "run.json").write_text(json.dumps(content | {"config": run_options(config)}))
    watched = "minival" if config.data.minival_percent else "validation"
    lines = [json.dumps({"kind": watched, "step": step, **EVALUATION}) for step in steps]
    (model_dir / "log.jsonl").write_text("\n".join([*lines, damage]))
    for step in steps:
        (model_dir / "checkpoints" / f"ckpt-{step}.index").touch()


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What the command lines name in braces."""
    root = tmp_path_factory.mktemp("places")
    make_run(root / "finished")
    make_run(root / "unsaved", steps=())
    make_run(root / "at_hand", data_dir=str(root / "photos"))
    (root / "photos" / "cat").mkdir(parents=True)
    for name in ("photo.jpg", "model.tflite"):
        (root / name).touch()
    (root / "shards.partial").mkdir()
    (root / "shards.partial" / "part-00001-of-00002.jsonl").touch()
    return {"root": root}


# id: command line, beginning of the message.
REFUSED = {
    "no data": ("--model_dir={root}/new", "--data_dir is missing"),
    "no such data_dir": (
        "--model_dir={root}/new --data_dir={root}/none",
        "--data_dir={root}/none: does not exist.",
    ),
    "no such archive": (
        "check-data --data_dir={root}/train.tar,{root}/val.tar",
        "--data_dir: {root}/train.tar: does not exist.",
    ),
    "shards that are not finished": (
        "--model_dir={root}/new --data_dir={root}/shards",
        "--data_dir={root}/shards: make-tfrecords has not finished these shards; {root}/shards.partial keeps",
    ),
    "a part of too few": (
        "make-tfrecords --data_dir={root}/photos --output_dir={root}/new --shards=9/8",
        "--shards=9/8: must be K/N with K from 1 to N: 1/8 to 8/8.",
    ),
    "no parts": (
        "make-tfrecords --output_dir={root}/new --shards=verify",
        "--output_dir={root}/new: there are no parts to verify, in {root}/new.partial.",
    ),
    "no such manifest": ("--model_dir={root}/new --data_dir={root}/a.csv", "--data_dir={root}/a.csv: does not exist."),
    "a file for data": (
        "check-data --data_dir={root}/photo.jpg",
        "--data_dir={root}/photo.jpg: is a file, not a folder",
    ),
    "no such init_from": (
        "--model_dir={root}/new --data_dir={root}/photos --init_from={root}/b0.h5",
        "--init_from={root}/b0.h5: no such file or directory. Wanted is a Keras file",
    ),
    "no run to evaluate": ("evaluate --model_dir={root}/none", "--model_dir={root}/none: no trained run here"),
    "no run to predict by": (
        "predict --model_dir={root}/none {root}/photo.jpg",
        "--model_dir={root}/none: no trained run",
    ),
    "no run to export": (
        "export --model_dir={root}/none --output_dir={root}/new",
        "--model_dir={root}/none: no trained run",
    ),
    "no run to compare": (
        "compare-maps --runs={root}/none --picture={root}/a.png {root}/photo.jpg",
        "--model_dir={root}/none: no trained run here",
    ),
    "no checkpoint": (
        "evaluate --model_dir={root}/unsaved",
        "--model_dir={root}/unsaved: the run has no",
    ),
    "no run to report": ("report {root}/none", "--model_dir={root}/none: no trained run here"),
    "no checkpoint to report": ("report {root}/unsaved", "--model_dir={root}/unsaved: the run has no"),
    "a file for a report": (
        "report {root}/at_hand --output_dir={root}/photo.jpg/report",
        "--output_dir={root}/photo.jpg/report: cannot be written: Not a directory. Name another folder.",
    ),
    "a file for a report of evaluate": (
        "evaluate --model_dir={root}/at_hand --report={root}/photo.jpg",
        "--report={root}/photo.jpg: cannot be written: Not a directory.",
    ),
    "several runs to report": ("report {root}/at_hand {root}/b", "report {root}/at_hand {root}/b: takes one run; `"),
    "a run by its flag": ("report {root}/at_hand --model_dir={root}/b", "--model_dir: not a flag of report; "),
    "no data any more": ("evaluate --model_dir={root}/finished", "--data_dir=/x: does not exist"),
    "no such benchmark": ("benchmark trian", "benchmark trian: must be one of input, train, inference. Did you mean"),
    "a report in no folder": (
        "benchmark train --report={root}/none/a.json",
        "--report={root}/none/a.json: there is no folder {root}/none. Make it, or name another.",
    ),
    "an unknown runtime": (
        "benchmark inference --runtimes=onnx",
        "--runtimes=onnx: must be of installed, tensorflow, litert, onnxruntime, with commas between.",
    ),
    "an export that the runtime does not read": (
        "benchmark inference --saved_model={root}/model.tflite --runtimes=onnxruntime",
        "--runtimes=onnxruntime: reads no {root}/model.tflite; litert does. Leave --runtimes out.",
    ),
    "an export of no known kind": (
        "benchmark inference --saved_model={root}/photo.jpg",
        "--saved_model={root}/photo.jpg: must be the directory of a SavedModel, or end with one of .keras, .tflite",
    ),
    "an export to train": (
        "benchmark train --saved_model={root}/photo.jpg",
        "--saved_model: is for `benchmark inference`, not for train.",
    ),
    "no batch": (
        "benchmark inference --batch_sizes=4,0",
        "--batch_sizes=4,0: must be whole numbers from 1 to 1,048,576, with commas between",
    ),
    "an ending of another kind": (
        "predict --model_dir={root}/finished --output={root}/found.xlsx {root}/photo.jpg",
        "--output={root}/found.xlsx: must end with .csv, .jsonl or .parquet.",
    ),
    "a folder that is not there": (
        "predict --model_dir={root}/finished --output={root}/none/found.csv {root}/photo.jpg",
        "--output={root}/none/found.csv: there is no folder {root}/none. Make it, or name another.",
    ),
    "embeddings of another kind": (
        "predict --model_dir={root}/finished --embeddings={root}/rows.npz {root}/photo.jpg",
        "--embeddings={root}/rows.npz: must end with .npy.",
    ),
    "a form of stdout for a file": (
        "predict --model_dir={root}/finished --output={root}/found.csv --format=json {root}/photo.jpg",
        "--format=json: is for what is printed; of --output={root}/found.csv the ending says it. Leave it out.",
    ),
    "no image": ("predict --model_dir={root}/finished {root}/none.jpg", "{root}/none.jpg: no such file, folder with"),
    "no glob": ("predict --model_dir={root}/finished {root}/*.png", "{root}/*.png: no such file, folder with"),
    "no export": (
        "predict --saved_model={root}/none.tflite {root}/photo.jpg",
        "--saved_model={root}/none.tflite: there is no such file",
    ),
    "an export there": (
        "export --model_dir={root}/finished --output_dir={root}/photos",
        "--output_dir={root}/photos: exists already",
    ),
    "an import there": (
        "import-weights --from=imagenet --output_dir={root}/photos",
        "--output_dir={root}/photos: exists already",
    ),
    "no weights": (
        "import-weights --from={root}/none.pth --output_dir={root}/new",
        "--from={root}/none.pth: no such file or directory",
    ),
    "no class weights": (
        "--model_dir={root}/new --data_dir={root}/photos --class_weights={root}/none.json",
        "--class_weights={root}/none.json: there is no such file",
    ),
    "a cache among other things": (
        "--model_dir={root}/new --data_dir={root}/photos --cache={root}",
        "--cache={root}: has other things in it, ",
    ),
    "a cache of the reference's single pixels": (
        "--model_dir={root}/new --data_dir={root}/photos --cache=memory --downscale=reference",
        "--cache=memory: keeps reduced pictures, and --downscale=reference takes single pixels",
    ),
    "no labels": (
        "import-weights --from={root}/photo.jpg --labels={root}/none.txt --output_dir={root}/new",
        "--labels={root}/none.txt: there is no such file",
    ),
    "nothing to compare": (
        "compare-maps --runs={root}/finished --picture={root}/a.png {root}/none.jpg",
        "{root}/none.jpg: no such file",
    ),
    "shards there": (
        "make-tfrecords --data_dir={root}/photos --output_dir={root}/finished",
        "--output_dir={root}/finished: is not empty",
    ),
    "a proof in a run": (
        "verify-resume --model_dir={root}/finished --data_dir={root}/photos",
        "--model_dir={root}/finished: is not empty",
    ),
}


@pytest.fixture(autouse=True)
def _no_tensorflow(monkeypatch):
    """Without TensorFlow, whatever was imported before."""

    def fail():
        raise AssertionError("TensorFlow was started")

    monkeypatch.setattr("efficientnet_tpu.hardware.tensorflow_startup.import_tensorflow", fail)


def test_a_report_that_may_not_be_written_is_refused(places, monkeypatch):
    monkeypatch.setattr("efficientnet_tpu.first_checks.os.access", lambda path, mode: False)
    run = f"{places['root']}/at_hand"
    with pytest.raises(UserError, match=f"^{run}/report: cannot be written: Permission denied. Name another folder.$"):
        cli.main(["main.py", "report", run])


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_there_is_refused_without_tensorflow(places, name):
    line, message = (text.format(**places) for text in REFUSED[name])
    with pytest.raises(UserError) as refused:
        cli.main(["main.py", *line.split()])
    assert str(refused.value).startswith(message)


def test_a_process_without_tensorflow_refuses_and_answers(places):
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from efficientnet_tpu import cli; cli.run(['main.py', *sys.argv[1:]])"
    )

    def run(line):
        command = [sys.executable, "-c", code, *line.format(**places).split()]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.returncode, result.stdout, result.stderr

    for name in ("no such data_dir", "no run to evaluate", "an export there"):
        status, output, errors = run(REFUSED[name][0])
        message = REFUSED[name][1].format(**places)
        assert (status, output, errors[: 7 + len(message)]) == (2, "", f"error: {message}")
    status, output, errors = run("--model_dir={root}/finished")
    assert (status, errors) == (0, "")
    assert output == (
        "this run has finished: top-1 50.00% (21.52 to 78.48)  loss 1.5000; raise --train_epochs to train on\n"
    )


def finished(model_dir, *flags):
    """The answer to a command that trains a run."""
    from efficientnet_tpu.run import run_record

    options = dict(flag.split("=") for flag in flags)
    stored = run_record.load(str(model_dir)).config
    kinds = {"train_epochs": float, "keep_checkpoints": int, "early_stopping_patience": int, "train_batch_size": int}
    given = {name: kinds.get(name, str)(value) for name, value in options.items()}
    return COMMANDS["train_and_eval"].answer(with_options(stored, given))


def test_a_run_that_is_not_at_its_end_is_not_finished(tmp_path):
    make_run(tmp_path / "amid", steps=(2,))
    assert finished(tmp_path / "amid") == ""
    make_run(tmp_path / "end", damage='{"kind": "valid')
    assert finished(tmp_path / "end").startswith("this run has finished: top-1 50.00%")
    assert finished(tmp_path / "end", "train_epochs=2") == ""
    assert finished(tmp_path / "end", "train_batch_size=8") == ""  # which is refused
    assert finished(tmp_path / "end", "data_dir=/y") == ""  # whose classes may be others
    assert finished(tmp_path / "end", "bn_mode=auto").startswith("this run has finished")
    (tmp_path / "end" / "checkpoints" / "ckpt-5.index").touch()  # saved after the last evaluation
    assert finished(tmp_path / "end") == ""
    (tmp_path / "end" / "log.jsonl").unlink()
    assert finished(tmp_path / "end") == ""


def test_one_of_several_hosts_does_not_answer_alone(tmp_path, monkeypatch):
    make_run(tmp_path / "run")
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert finished(tmp_path / "run") == ""


def test_flags_that_change_nothing_in_a_finished_run_are_named(tmp_path):
    make_run(tmp_path / "run")
    first, second = finished(tmp_path / "run", "keep_checkpoints=1").splitlines()
    assert first == "--keep_checkpoints=1: changes nothing in the run, which has finished"
    assert second.startswith("this run has finished")


def test_a_run_that_stopped_early_says_so(tmp_path):
    make_run(tmp_path / "run", steps=(2, 3), early_stopping_patience=1)
    assert "this run has stopped early: " in finished(tmp_path / "run")
    assert "raise --early_stopping_patience to train on" in finished(tmp_path / "run")
    assert finished(tmp_path / "run", "early_stopping_patience=2") == ""


def test_a_minival_names_the_validation_of_the_best(tmp_path):
    make_run(tmp_path / "run", minival_percent=10.0)
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write("\n" + json.dumps({"kind": "validation", "step": 2, **EVALUATION, "num_images": 20}) + "\n")
    first, second = finished(tmp_path / "run").splitlines()
    assert "(21.52 to 78.48)  loss 1.5000; raise" in first  # Wilson's interval of 4 of 8
    assert second == "validation of the best checkpoint, step 2: top-1 50.00% (29.93 to 70.07)  loss 1.5000"
