"""The benchmark of the input pipeline: its stages are training's, its figures hold together, its advice fits."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.config.run import HardwareConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.plan import table
from efficientnet_tpu.plan.planner import Planner

SIZE = 32  # efficientnet-nano's
EPOCHS, IMAGENET = 350, 1_281_167


@pytest.fixture(scope="module")
def benchmark(tf):
    from efficientnet_tpu.data_inspection import input_benchmark

    return input_benchmark


@pytest.fixture(scope="module")
def report(tf):
    from efficientnet_tpu.data_inspection import input_report

    return input_report


@pytest.fixture(scope="module")
def accelerator_throughput(tf):
    from efficientnet_tpu.data_inspection import accelerator_throughput

    return accelerator_throughput


@pytest.fixture
def quick(benchmark, monkeypatch):
    """Stages of a twentieth of a second, in a process whose TensorFlow has started; -> what was asked of `connect`."""
    asked = []
    monkeypatch.setattr(benchmark, "SECONDS_PER_STAGE", 0.05)
    monkeypatch.setattr(benchmark.distribution, "connect", asked.append)
    return asked


@pytest.fixture
def config(shapes):
    return with_options(Config(), {"data_dir": str(shapes), "model": "efficientnet-nano", "train_batch_size": 16})


# ---- The chips.


def test_speeds_are_those_that_plan_expects(accelerator_throughput):
    """And are within their factor of two of the public records."""
    config = with_options(Config(), {"model": "efficientnet-b4"})
    b4, b0 = build_architecture("efficientnet-b4"), build_architecture("efficientnet-b0")
    speeds = accelerator_throughput.training_speeds(config, b4)
    assert next(iter(speeds)) == "v2"
    assert speeds.keys() == {"v2", "v3", "v4", "v5e", "v5p", "v6e", "A100"}
    figures = [speed.images_per_second for speed in speeds.values()]
    assert figures == sorted(figures)
    tpu = parse_slice("v5e-8")
    planned = Planner(config, b4, table.load(table.SHIPPED)).plan(tpu, 1024).likely_cost
    assert speeds["v5e"].images_per_second == pytest.approx(planned.images_per_second / 8, rel=0.05)
    assert 0.5 < speeds["v3"].images_per_second / (2 * 262) < 2  # EfficientNetV2's table 3
    whole_run = EPOCHS * IMAGENET / (23 * 3600) / 4  # B0 on a v2-8 in 23 hours
    of_b0 = accelerator_throughput.training_speeds(with_options(config, {"model": "efficientnet-b0"}), b0)
    assert 0.5 < of_b0["v2"].images_per_second / whole_run < 2


def test_the_speed_of_a_gpu_is_published_or_scaled(accelerator_throughput, monkeypatch):
    of_b0 = accelerator_throughput.a100_speed(build_architecture("efficientnet-b0"))
    assert of_b0 == accelerator_throughput.Speed(2600, is_published=True)  # NVIDIA: 20,647 on 8
    assert accelerator_throughput.a100_speed(build_architecture("efficientnet-b4")).images_per_second == 400
    for options in ({"resolution": 300}, {"width_coefficient": 2.0}):
        assert not accelerator_throughput.a100_speed(build_architecture("efficientnet-b4", **options)).is_published
    monkeypatch.delitem(accelerator_throughput.A100, "efficientnet-b0")
    scaled = accelerator_throughput.a100_speed(build_architecture("efficientnet-b0"))
    assert scaled.images_per_second == pytest.approx(20_647 / 8, rel=0.2)


# ---- The stages.


def test_prepare_stages(benchmark, report, config):
    names = [report.READ, report.DECODE, report.RESIZE, report.BATCH]
    assert list(benchmark.prepare_stages(config, SIZE)) == names
    augmented = with_options(config, {"augment": "randaugment"})
    assert list(benchmark.prepare_stages(augmented, SIZE)) == [*names[:3], report.AUGMENT, report.BATCH]


def test_stages_do_what_training_does(tf, benchmark, report, config, shapes):
    from efficientnet_tpu.data.preprocessing import make_train_image

    config = with_options(config, {"augment": "autoaugment"})
    stages = benchmark.prepare_stages(config, SIZE)
    encoded = tf.constant((shapes / "train" / "circle" / "01.jpg").read_bytes())
    plain = make_train_image(with_options(config, {"augment": "none"}).data, SIZE)
    augmented = make_train_image(config.data, SIZE)
    corners = set()
    for number in range(8):
        seed = tf.constant([5, number])
        assert int(stages[report.READ](encoded, seed)) == len(encoded.numpy())
        corners.add(int(stages[report.DECODE](encoded, seed)))
        assert stages[report.RESIZE](encoded, seed) == plain(encoded, seed)[0, 0, 0]
        assert stages[report.AUGMENT](encoded, seed) == augmented(encoded, seed)[0, 0, 0]
        assert np.array_equal(stages[report.BATCH](encoded, seed), augmented(encoded, seed))
    assert len(corners) > 3  # the random crop, and no fixed one


def test_all_but_reading_decode(tf, benchmark, report, config, shapes):
    encoded = (shapes / "train" / "circle" / "00.png").read_bytes()
    truncated, seed = tf.constant(encoded[: len(encoded) // 2]), tf.constant([1, 2])
    for name, prepare in benchmark.prepare_stages(config, SIZE).items():
        if name == report.READ:
            prepare(truncated, seed)
        else:
            with pytest.raises(tf.errors.InvalidArgumentError):
                prepare(truncated, seed)


def test_cpu_time_is_that_of_work_not_of_waiting(tf, benchmark, quick, config, monkeypatch):
    from efficientnet_tpu.data.datasets import open_data
    from efficientnet_tpu.data.unreadable_log import UnreadableImages

    monkeypatch.setattr(benchmark, "SECONDS_PER_STAGE", 0.3)

    def wait(number):
        time.sleep(0.004)
        return number

    def work(number):
        end = time.thread_time() + 0.004
        while time.thread_time() < end:
            pass
        return number

    split = open_data(config.data).train
    unreadable = UnreadableImages(None, 0, split.num_images)
    times = {}
    for function in (wait, work):

        def prepare(encoded, seed, function=function):
            return tf.ensure_shape(tf.numpy_function(function, [seed[1]], tf.int32), [])

        times[function] = benchmark.measure(function.__name__, split, prepare, config, unreadable)
    assert times[work].cpu_ms > 2 * times[wait].cpu_ms
    for measured in times.values():
        cores = os.cpu_count() or 1
        assert measured.images_per_second * measured.cpu_ms / 1000 < cores + 0.5
    assert times[work].images_per_second < 260  # Python runs one at a time
    assert times[work].first_batch_seconds > 0.06  # 16 images


# ---- The report.


def _times(report, **cpu_ms):
    """Stages that take so much CPU time up to there, on two busy cores."""
    names = {"read": report.READ, "decode": report.DECODE, "resize": report.RESIZE, "augment": report.AUGMENT}
    return [report.StageTime(names.get(key, report.BATCH), 2000 / value, value, 1.5) for key, value in cpu_ms.items()]


def _machine(report, **changes):
    values = {"num_cores": 2, "load_average": 0.3, "peak_memory": 1_500_000_000, "memory_before": 600_000_000}
    return report.Machine(**{**values, **changes})


@pytest.mark.parametrize(
    ("cumulative", "costs"),
    [
        ([0.1, 1.1, 1.6, 2.0], [0.1, 1.0, 0.5, 0.4]),
        ([0.1, 1.1, 1.0, 2.0], [0.1, 1.0, 0.0, 0.9]),  # noise
        ([2.0, 1.0], [2.0, 0.0]),
    ],
)
def test_costs_add_up_and_are_never_negative(report, cumulative, costs):
    stages = [report.StageTime(str(index), 1.0, value, 0.0) for index, value in enumerate(cumulative)]
    assert report.stage_costs(stages) == pytest.approx(costs)


def test_the_table_of_stages(report):
    stages = _times(report, read=0.1, decode=1.1, resize=1.6, augment=2.4, batch=2.5)
    assert report.stage_table(stages) == [
        "stage              CPU ms/image   share   images/s up to here",
        "read                      0.100      4%                20,000",
        "decode and crop           1.000     40%                 1,818",
        "resize and flip           0.500     20%                 1,250",
        "augment                   0.800     32%                   833",
        "batch                     0.100      4%                   800",
        "all                       2.500    100%                   800",
    ]


def test_what_it_feeds(report, accelerator_throughput):
    """800 images/s at 2.5 ms each: of B4 that is 1.5 chips that take 520, of which one needs 1.3 cores."""
    speed = accelerator_throughput.Speed
    speeds = {"v3": speed(520, 2), "v5e": speed(480, 1), "A100": speed(400, is_published=True)}
    stages = _times(report, read=0.1, decode=1.1, batch=2.5)
    lines = report.feeds_table(stages, build_architecture("efficientnet-b4"), speeds)
    rows = {line.split()[0]: line.split() for line in lines[2:5]}
    assert rows["v3"] == ["v3", "520", "estimate", "1.5", "chips", "=", "3.1", "cores", "1.3"]
    assert rows["v5e"] == ["v5e", "480", "estimate", "1.7", "chips", "=", "1.7", "cores", "1.2"]
    assert rows["A100"] == ["A100", "400", "published", "2.0", "chips", "1.0"]
    assert lines[0] == "What this feeds when training efficientnet-b4 at 380 x 380:"


@pytest.mark.parametrize(
    ("cpu_ms", "words"),
    [
        ({"read": 1.0, "decode": 1.2, "resize": 1.3, "batch": 1.4}, "make-tfrecords"),
        ({"read": 0.1, "decode": 1.2, "resize": 1.3, "batch": 1.4}, "shorter side of about 448 pixels"),
        ({"read": 0.1, "decode": 0.2, "resize": 1.3, "batch": 1.4}, "--resolution, 224 x 224 here"),
        ({"read": 0.1, "decode": 0.2, "resize": 0.4, "augment": 2.0, "batch": 2.1}, "prepare about 5,000 images/s"),
        ({"read": 0.1, "decode": 0.2, "resize": 0.3, "batch": 1.0}, "Copying into batches"),
    ],
)
def test_advice_is_on_what_dominates(report, cpu_ms, words):
    said = report.advice(_times(report, **cpu_ms), build_architecture("efficientnet-b0"))
    assert words in said
    assert "More hosts" in said


def test_reading_that_waits_is_the_limit_though_it_costs_no_cpu_time(report):
    stages = [report.StageTime(report.READ, 120, 0.05, 1), *_times(report, decode=1.0, resize=1.1, batch=1.2)]
    stages[-1] = report.StageTime(report.BATCH, 110, 1.2, 1)
    assert report.advice(stages, build_architecture("efficientnet-b0")).startswith("Reading is the limit")


@pytest.mark.parametrize(("load", "cores", "warns"), [(0.9, 2, False), (1.1, 2, True), (1.1, 8, False)])
def test_a_loaded_machine_is_warned_of(report, load, cores, warns):
    machine = _machine(report, load_average=load, num_cores=cores)
    stages = _times(report, read=0.1, decode=1.0, resize=1.1, batch=1.2)
    text = report.report(stages, machine, build_architecture("efficientnet-b0"), {}, 1000, 256)
    assert ("warning: the load average was" in text) == warns
    assert f"load average before the start: {load}" in text


def test_totals(report):
    stages = _times(report, read=0.1, decode=1.1, resize=2.0, batch=2.5)
    text = report.report(stages, _machine(report), build_architecture("efficientnet-b0"), {}, IMAGENET, 256)
    assert "800 images/s, measured here with 2.0 of 2 cores at work; by its CPU time a core does 400, all of" in text
    assert "an epoch of 1,281,167 images takes 26 min 41 s" in text
    assert "the first batch, of 256, came after 1.5 s" in text
    assert "memory: 1.5 GB at most, 0.6 GB of it before the first image" in text
    assert max(map(len, text.splitlines())) <= 130


# ---- The whole program.


def _rows(out):
    """Stage -> its three figures."""
    lines = out.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("stage "))
    table = lines[start + 1 : lines.index("", start)]
    return {
        line[:18].strip(): [float(word.strip("%").replace(",", "")) for word in line[18:].split()] for line in table
    }


@pytest.fixture
def run(quick, capsys):
    """run(flag, ...) -> what `main.py benchmark input` prints."""
    from efficientnet_tpu import cli

    def run(*flags):
        command = ["main.py", "benchmark", "input", "--model=efficientnet-nano", "--train_batch_size=16"]
        cli.main([*command, *flags])
        return capsys.readouterr().out

    return run


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["none", "autoaugment"])
def test_the_command(run, quick, shapes, augment):
    source = "--dataset=sample" if augment == "none" else f"--data_dir={shapes}"
    out = run(source, f"--augment={augment}", "--tpu=local", "--virtual_replicas=3")
    rows = _rows(out)
    augmentation = ["augment"] * (augment != "none")
    assert list(rows) == ["read", "decode and crop", "resize and flip", *augmentation, "batch", "all"]
    costs, shares, speeds = np.transpose(list(rows.values()))
    assert (costs >= 0).all()
    assert costs[-1] == pytest.approx(costs[:-1].sum(), abs=0.005)
    assert shares[-1] == 100
    assert shares[:-1].sum() == pytest.approx(100, abs=3)
    assert speeds[-1] == speeds[-2] > 0
    assert all(f"\n{chip} " in out for chip in ("v2", "v3", "v4", "v5e", "v5p", "v6e", "A100"))
    # No accelerator is touched, and operations have one thread, as beside one.
    assert quick == [HardwareConfig(tpu="none", intra_op_threads=1)]


def test_threads_that_were_asked_for(benchmark, quick):
    with pytest.raises(UserError, match="--data_dir is missing"):
        benchmark.benchmark_input(with_options(Config(), {"intra_op_threads": 3}))
    assert quick == [HardwareConfig(tpu="none", intra_op_threads=3)]


@pytest.mark.slow
def test_unreadable_images_are_named_once_and_not_counted_again_by_every_stage(tf, run, tmp_path):
    generator = np.random.default_rng(0)
    for name in "ab":
        for number in range(20):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tf.io.encode_png(generator.integers(0, 256, (40, 40, 3), np.uint8)).numpy()
            path.write_bytes(content if number else content[:100])  # two of 40; five may be
    flags = (f"--data_dir={tmp_path}/images", "--validation_percent=1", "--train_batch_size=40")
    out = run(*flags)
    assert out.count("skipped ") == out.count("truncated PNG") == 2
    assert "\nall " in out
    with pytest.raises(UserError, match="cannot be read"):
        run(*flags, "--max_unreadable_percent=0")


def test_there_is_no_benchmark_of_the_output(quick):
    from efficientnet_tpu import cli

    with pytest.raises(UserError, match="benchmark output: must be one of input, train, inference"):
        cli.main(["main.py", "benchmark", "output"])


@pytest.mark.slow
def test_in_a_process_of_its_own(shapes):
    """Where nothing has started TensorFlow before, and the number of threads can be set."""
    command = [sys.executable, "main.py", "benchmark", "input", f"--data_dir={shapes}", "--model=efficientnet-nano"]
    finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert list(_rows(finished.stdout)) == ["read", "decode and crop", "resize and flip", "batch", "all"]
    assert "Traceback" not in finished.stderr
