"""benchmarks/time_to_accuracy.py: its images, curves and table are right, and ours and Keras run to the end."""

import csv
import dataclasses
import gzip
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("time_to_accuracy", None)
    import time_to_accuracy

    return time_to_accuracy


def curve(benchmark, *points):
    """A curve of (accuracy, CPU minutes)."""
    return [
        benchmark.Point(number + 1.0, accuracy, minutes, minutes / 2)
        for number, (accuracy, minutes) in enumerate(points)
    ]


def write_images(folder, count, seed=0):
    folder.mkdir(parents=True)
    for number, image in enumerate(np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), np.uint8)):
        Image.fromarray(image).save(folder / f"{number}.png")


def test_lines_of_an_evaluation_are_read(benchmark):
    from accuracy.training import accuracy_line, read_accuracy

    # As the program prints them: with an interval, with the raw weights.
    line = "-- validation  epoch 3.99  top-1 94.52% (92.57 to 95.98)  top-5 100.00%  loss 0.2  688 images  (9 s)\n"
    assert read_accuracy(line) == (3.99, pytest.approx(0.9452))
    assert read_accuracy(accuracy_line(2, 0.12345)) == (2, pytest.approx(0.1235, abs=1e-4))
    assert read_accuracy("step 10/20  epoch 0.50  loss 1.0  top-1 50.0%  lr 0.01") is None


def test_a_training_is_a_curve_of_what_it_had_cost(benchmark, tmp_path):
    program = (
        "import time\n"
        "print('-- validation  epoch 1.00  top-1 50.00%', flush=True)\n"
        "while time.process_time() < 0.4: pass\n"
        "print('-- validation  epoch 2.00  top-1 75.00%', flush=True)\n"
    )
    points = benchmark.train([sys.executable, "-c", program], {}, tmp_path / "log.txt")
    assert [(point.epoch, point.top_1_accuracy) for point in points] == [(1, 0.5), (2, 0.75)]
    first, second = (60 * point.cpu_minutes for point in points)
    assert first < 0.4 - 0.02 <= second < 5
    assert points[1].wall_minutes >= points[0].wall_minutes
    benchmark.write_curve(tmp_path / "curve.csv", points)
    read = benchmark.read_curve(tmp_path / "curve.csv")
    assert [dataclasses.astuple(point) for point in read] == [
        pytest.approx(dataclasses.astuple(point), rel=1e-5) for point in points
    ]
    assert set(os.listdir(tmp_path)) == {"curve.csv", "log.txt"}


def test_a_training_that_fails_says_why(benchmark, tmp_path):
    with pytest.raises(benchmark.TrainingFailedError, match=r"(?s)exit status 1.*no such thing"):
        benchmark.train([sys.executable, "-c", "raise SystemExit('no such thing')"], {}, tmp_path / "log.txt")
    with pytest.raises(benchmark.TrainingFailedError, match="exit status 0"):
        benchmark.train([sys.executable, "-c", ""], {}, tmp_path / "log.txt")


def test_ours_is_compared_with_the_best_of_a_peer(benchmark):
    curves = {
        "ours": [curve(benchmark, (0.5, 1), (0.8, 2), (0.9, 3)), curve(benchmark, (0.7, 1), (0.8, 2), (0.9, 5))],
        "slow": [curve(benchmark, (0.7, 2), (0.8, 8), (0.75, 10))],
        "better": [curve(benchmark, (0.89, 2), (0.95, 6))],
    }
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in benchmark.report.table(curves).splitlines()]
    ours, slow, better = rows[2:]
    assert len({len(row) for row in rows}) == 1
    assert ours[:5] == ["ours", "2", "4.0 (3.0-5.0)", "2.0", "90.00 (90.00-90.00)"]
    # Their best, after 8 minutes; the mean of ours is there after 2; when ours has ended, after 4, they had 70%.
    assert slow[4:] == ["75.00 (75.00-75.00)", "80.00", "8.0", "2.0", "0.25", "4.0: 90.00, 70.00"]
    assert better[5:] == ["95.00", "6.0", "never", "-", "4.0: 90.00, 89.00"]
    assert "never" not in benchmark.report.table({"slow": curves["slow"]})


def test_curves_are_written_as_csv(benchmark, tmp_path):
    curves = {"ours": [curve(benchmark, (0.5, 1), (0.8, 2)), curve(benchmark, (0.7, 1), (0.8, 2))]}
    benchmark.report.write_csv(tmp_path / "curves.csv", curves)
    with open(tmp_path / "curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["contestant"], row["run"], float(row["top_1_accuracy"])) for row in rows] == [
        ("ours", "0", 0.5), ("ours", "0", 0.8), ("ours", "1", 0.7), ("ours", "1", 0.8),
    ]  # fmt: skip


def test_a_fifth_of_each_class_is_held_out_by_its_content(benchmark, tmp_path):
    write_images(tmp_path / "given" / "a", 10)
    write_images(tmp_path / "given" / "b", 5, seed=1)
    (tmp_path / "given" / "a" / "notes.txt").write_text("no image")
    data = benchmark.write_split(tmp_path / "given", tmp_path / "data", 0)
    names = {path.relative_to(data).as_posix() for path in data.glob("*/*/*")}
    assert (benchmark.count_images(data, "train"), benchmark.count_images(data, "validation")) == (12, 3)
    assert len(names) == 15
    # Other names are the same split: the contents decide.
    (tmp_path / "given" / "a").rename(tmp_path / "given" / "c")
    other = benchmark.write_split(tmp_path / "given", tmp_path / "other", 0)
    held_out = [{path.read_bytes() for path in place.glob("validation/*/*")} for place in (data, other)]
    assert held_out[0] == held_out[1]
    # What a recipe is chosen by has none of the held-out images.
    tuning = benchmark.write_split(tmp_path / "given", tmp_path / "tuning", 0, tuning=True)
    contents = {path.read_bytes() for path in tuning.glob("*/*/*")}
    assert len(contents) == 12
    assert not contents & held_out[0]
    assert benchmark.count_images(tuning, "validation") == 3


def test_given_splits_stay_and_a_try_takes_few(benchmark, tmp_path):
    write_images(tmp_path / "given" / "train" / "a", 4)
    write_images(tmp_path / "given" / "test" / "a", 3, seed=1)
    data = benchmark.write_split(tmp_path / "given", tmp_path / "data", 2)
    assert len(list(data.glob("train/a/*"))) == len(list(data.glob("validation/a/*"))) == 2
    assert benchmark.write_split(tmp_path / "given", data, 2) == data
    with pytest.raises(SystemExit, match="give another --output_dir"):
        benchmark.write_split(tmp_path / "given", data, 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"--data_dir=.*empty: has no"):
        benchmark.write_split(tmp_path / "empty", tmp_path / "nothing", 0)


def test_idx_files_are_read(benchmark, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    labels = np.uint8(np.arange(20) % 10)
    for prefix, count in (("train", 20), ("t10k", 10)):
        for kind, array in (("images-idx3", images[:count]), ("labels-idx1", labels[:count])):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (tmp_path / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    data = benchmark.write_split(tmp_path, tmp_path / "data", 0)
    assert (benchmark.count_images(data, "train"), benchmark.count_images(data, "validation")) == (20, 10)
    assert (np.asarray(Image.open(data / "train" / "trouser" / "00011.png")) == images[11]).all()


@pytest.mark.parametrize(
    "flag",
    ["--contestants=jax", "--epochs=ours", "--epochs=jax=3", "--epochs=ours=0", "--seeds=0", "--data_dir=/nowhere"],
)
def test_bad_options(benchmark, capsys, tmp_path, flag):
    with pytest.raises(SystemExit):
        benchmark.main(["--task=fashion", f"--data_dir={tmp_path}", f"--output_dir={tmp_path}", flag])
    assert flag.partition("=")[0] in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_said_at_the_start(benchmark, capsys, tmp_path):
    flags = ["--contestants=timm", "--peer_python=/bin/false", f"--data_dir={tmp_path}", f"--output_dir={tmp_path}"]
    with pytest.raises(SystemExit):
        benchmark.main(["--task=flowers", *flags])
    assert "--peer_python=/bin/false: has no timm or torch" in capsys.readouterr().err


def test_every_contestant_says_where_its_settings_are_from(benchmark):
    root = BENCHMARKS.parent
    for task in benchmark.TASKS.values():
        for name, contestant in task.contestants.items():
            assert contestant.source
            assert bool(contestant.recipe) == (name == "ours")
            if contestant.recipe:
                assert (root / "flags" / f"{contestant.recipe}.flags").is_file()
                assert f"--train_epochs={contestant.epochs}\n" in (root / contestant.source).read_text()
            else:
                assert (BENCHMARKS / "accuracy" / f"{contestant.module}.py").is_file()


def test_fewer_epochs_keep_the_share_of_the_warm_up(benchmark):
    timm = benchmark.TASKS["cifar10"].contestants["timm"]
    shorter = benchmark._with_epochs(timm, 6)
    assert (shorter.epochs, shorter.settings["warmup_epochs"]) == (6, 2.5)
    assert benchmark._with_epochs(timm, None) is timm


@pytest.mark.slow
def test_ours_and_keras_run_to_the_end_and_are_not_repeated(benchmark, capsys, tmp_path):
    for split, seed in (("train", 0), ("test", 1)):
        for label, name in enumerate(("dark", "light")):
            write_images(tmp_path / "given" / split / name, 8, seed=2 * seed + label)
    flags = ["--task=fashion", f"--data_dir={tmp_path / 'given'}", f"--output_dir={tmp_path / 'out'}", "--seeds=1"]
    flags += ["--contestants=bare,keras", "--epochs=bare=1,keras=1", "--threads=1"]
    flags += ["--variant=bare=--moving_average_decay=0 --train_batch_size=8"]
    assert benchmark.main(flags) == 0
    place = tmp_path / "out" / "fashion"
    for name in ("bare-0", "keras-0"):
        (point,) = benchmark.read_curve(place / "runs" / name / "curve.csv")
        assert point.epoch == 1
        assert point.cpu_minutes > 0.01
    assert "--moving_average_decay=0" in (place / "runs" / "bare-0" / "settings.json").read_text()
    assert (place / "table.md").read_text().count("\n") == 4
    assert (place / "curves.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert benchmark.main(flags) == 0
    assert capsys.readouterr().out.count("has ended before") == 2
    with pytest.raises(SystemExit, match="is a run of other settings"):
        benchmark.main([*flags, "--epochs=bare=2"])


@pytest.mark.slow
def test_keras_has_the_same_network_in_its_own_layers(tf, benchmark):
    import keras
    from accuracy.keras_training import in_stock_layers

    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.compound_scaling import build_architecture

    model = build_model(build_architecture("efficientnet-nano", 3))
    generator = np.random.default_rng(0)
    for weight in model.weights:  # statistics of batch norm that differ from the first ones
        weight.assign(generator.uniform(0.5, 1.5, weight.shape).astype("float32") * 0.1)
    stock = in_stock_layers(model)
    assert {type(layer).__module__.partition(".")[0] for layer in stock.layers} == {"keras"}
    images = generator.integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert np.abs(model.predict(images, verbose=0) - stock.predict(images, verbose=0)).max() < 1e-5
    assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in stock.layers)
