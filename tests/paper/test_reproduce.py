"""`main.py reproduce`: from the command line to files."""

import base64

import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.errors import UserError


def reproduce(*flags):
    cli.main(["main.py", "reproduce", *flags])


def error_of(*flags):
    with pytest.raises(UserError) as error:
        reproduce(*flags)
    return str(error.value)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 6, 7, 8])
def test_tables_are_printed(capsys, number):
    reproduce(f"--table={number}")
    text = capsys.readouterr().out
    assert text.startswith(f"Table {number}: ")
    assert "written" not in text


@pytest.mark.parametrize("number", [1, 3, 4, 5, 8])
def test_figures_are_printed(capsys, number):
    reproduce(f"--figure={number}")
    assert capsys.readouterr().out.startswith(f"Figure {number}: ")


@pytest.mark.parametrize(
    ("flag", "name"),
    [("--table=3", "table3"), ("--table=6", "table6"), ("--figure=3", "figure3"), ("--figure=5", "figure5")],
)
def test_files_are_written(tf, tmp_path, capsys, flag, name):
    from PIL import Image

    reproduce(flag, f"--output_dir={tmp_path / 'new'}")
    files = {path.name: path for path in (tmp_path / "new").iterdir()}
    assert set(files) == {f"{name}.csv", f"{name}.html", f"{name}.png"}
    assert all(str(path) in capsys.readouterr().out for path in list(files.values())[:1])
    picture = Image.open(files[f"{name}.png"]).convert("L")
    assert min(picture.size) > 200
    # Nothing is cut off: the edges are white, the middle is not.
    edges = [picture.crop(box) for box in ((0, 0, picture.width, 5), (picture.width - 5, 0, *picture.size))]
    assert all(edge.getextrema() == (255, 255) for edge in edges)
    assert picture.getextrema()[0] < 100
    page = files[f"{name}.html"].read_text()
    embedded = base64.b64encode(files[f"{name}.png"].read_bytes()).decode()
    assert (embedded in page) == flag.startswith("--figure")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name one: --table=1 to 8"),
        (["--table=1", "--figure=1"], "name one: --table=1 to 8"),
        (["--table=6", "--model_dir=x"], "--model_dir=x: Table 6 has nothing that a run would fill in"),
        (["--table=9"], "--table=9: must be at most 8"),
        (["--figure=2"], "--figure=2: is a drawing"),
        (["--figure=6"], "--table=5"),
        (["--figure=12"], "--figure=12: is not in the paper"),
    ],
)
def test_bad_input(flags, message):
    assert message in error_of(*flags)


def test_a_run_of_other_data_is_named_and_left_out(trained, capsys):
    reproduce("--table=2", f"--model_dir={trained}")
    text = " ".join(capsys.readouterr().out.split())
    assert f"{trained}: top-1 " in text
    assert "3 classes, not ImageNet: not in the table" in text


def test_runs_are_found_in_the_folders_of_a_directory(trained):
    from efficientnet_tpu.paper.run_results import load_runs

    (run,) = load_runs(f"{trained.parent}/")
    assert run.model_dir == str(trained)
    assert (run.num_classes, run.split, run.epoch) == (3, "validation", 10.0)
    assert 0.5 < run.top_1 <= run.top_5 <= 1


def test_no_run(tf, tmp_path):
    assert "no run that has been evaluated" in error_of("--table=2", f"--model_dir={tmp_path}")
    assert "no run that has been evaluated" in error_of("--table=2", f"--model_dir={tmp_path / 'nowhere'}")


@pytest.mark.slow
def test_table_4_measures(tf, monkeypatch, capsys):
    """With small networks in place of the paper's, and without binding the process, whose other tests need it."""
    from efficientnet_tpu.models.compound_scaling import build_architecture
    from efficientnet_tpu.paper import latency, other_networks

    tiny = build_architecture("efficientnet-nano", depth_coefficient=0.2)
    monkeypatch.setattr(latency, "use_one_core", lambda: "one thread")
    monkeypatch.setattr(latency, "scale", lambda *_: tiny)
    monkeypatch.setattr(latency, "RUNS", 2)
    monkeypatch.setattr(other_networks, "build", lambda name: latency.build_model(tiny))
    monkeypatch.setattr(other_networks, "RESOLUTIONS", {"ResNet152": 32})
    reproduce("--table=4")
    text = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith(("ResNet", "Eff", "GPipe "))}
    assert rows["EfficientNet-B1"][-1].endswith("x")
    assert rows["GPipe"] == ["GPipe", "84.3", "19.0", "s"]
    assert rows["EfficientNet-B7"][-1] == "6.1x"  # the paper's alone


@pytest.mark.slow
def test_latency_counts_the_runs_after_the_warm_up(tf):
    from efficientnet_tpu.models.compound_scaling import build_architecture
    from efficientnet_tpu.paper import latency

    found = latency.measure_architecture(build_architecture("efficientnet-nano", depth_coefficient=0.2), runs=5)
    assert found.runs == 5
    assert 0 < found.minimum <= found.median
    assert found.minimum <= found.mean
