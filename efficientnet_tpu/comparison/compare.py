"""`main.py compare RUN RUN ...`: what two or more runs have different, in their options, curves and results."""

import os
from collections.abc import Sequence

from efficientnet_tpu.comparison.compared_run import ComparedRun, load_run
from efficientnet_tpu.comparison.significance import mcnemar, two_proportions
from efficientnet_tpu.config.config import Config
from efficientnet_tpu.display.terminal import duration
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.paper import reproduce
from efficientnet_tpu.paper.figures import Figure, Panel, PointSeries
from efficientnet_tpu.paper.paper_table import Counted, PaperTable
from efficientnet_tpu.run.confidence_interval import with_interval
from efficientnet_tpu.texts.printable import shown

CHANCE = 0.05  # a p-value from which on a difference may be chance
_MOST_CLASSES = 10  # of those that moved
_WIDEST = 40  # characters of a value in a table


def compare(config: Config, directories: Sequence[str]) -> None:
    """Prints three tables; with --output_dir also writes them, and the curves over each other, as files."""
    names = [directory.rstrip("/") for directory in directories]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise UserError(f"compare {' '.join(directories)}: name two runs or more, each once.")
    runs = [load_run(name, label) for name, label in zip(names, _labels(names), strict=True)]
    output_dir = config.output.output_dir
    reproduce.show(differences_table(runs), None, output_dir)
    print()
    reproduce.show(results_table(runs), curves_figure(runs) if output_dir else None, output_dir)
    print()
    first, *others = runs
    moved = [table for other in others if (table := moved_classes_table(first, other, len(runs) > 2))]
    for table in moved:
        reproduce.show(table, None, output_dir)
        print()


def differences_table(runs: Sequence[ComparedRun]) -> PaperTable:
    """Returns the options, images and versions that not all runs share, a row for each."""
    facts = [run.facts for run in runs]
    names = dict.fromkeys(name for one in facts for name in one)
    rows = [
        (name, *(shown(one.get(name, ""), _WIDEST) or "-" for one in facts))
        for name in names
        if len({one.get(name, "") for one in facts}) > 1
    ]
    notes = () if rows else ("None: the runs have the same options, images and versions.",)
    return PaperTable("compare_options", "What differs", _columns(runs), tuple(rows), notes)


def results_table(runs: Sequence[ComparedRun]) -> PaperTable:
    """Returns the best evaluation of each run with its interval, speed and time; in notes, tests against the first."""
    rows = []
    for run in runs:
        best, speed = run.best, run.images_per_second
        cells: list[str | Counted] = [
            run.name,
            Counted(best["top_1_accuracy"], with_interval(best["top_1_accuracy"], best["num_images"])),
            Counted(best["loss"], f"{best['loss']:.4f}"),
            Counted(best["step"], f"{best['step']:,} ({best['epoch']:.1f})"),
            Counted(best["num_images"], f"{best['num_images']:,.0f} {best['kind']}"),
            Counted(speed, f"{speed:,.0f}"),
            Counted(run.hours, duration(3600 * run.hours)),
        ]
        rows.append(tuple(cells))
    heads = ("run", "best top-1 (95%)", "loss", "step (epoch)", "images", "images/s", "time")
    notes = [
        "The best evaluation of each run. Chosen among several on the same images it flatters, the more of them the "
        "more.",
        *(_tested(runs[0], other) for other in runs[1:]),
    ]
    return PaperTable("compare_results", "Results", tuple((head, "") for head in heads), tuple(rows), tuple(notes))


def curves_figure(runs: Sequence[ComparedRun]) -> Figure:
    """Returns the loss of training and the accuracy of evaluations over epochs, a color for each run."""
    loss, accuracy = [], []
    for color, run in enumerate(runs):
        training = [(entry["epoch"], entry["loss"], "") for entry in run.entries if entry["kind"] == "train"]
        evaluated = [
            (entry["epoch"], 100 * entry["top_1_accuracy"], "")
            for entry in run.entries
            if entry["kind"] == run.best["kind"]
        ]
        loss.append(PointSeries(run.name, tuple(training), "line", color))
        accuracy.append(PointSeries(run.name, tuple(evaluated), "curve", color))
    panels = (
        Panel("epoch", "training loss (nats)", tuple(loss)),
        Panel("epoch", "top-1 accuracy (%)", tuple(accuracy)),
    )
    return Figure("compare_results", "Training loss and accuracy", panels)


def moved_classes_table(first: ComparedRun, other: ComparedRun, is_named: bool) -> PaperTable | None:
    """Returns the classes whose accuracy differs most between two runs; None where none does, or without predictions
    for the same images.

    is_named: whether the table's name says which run it is about.
    """
    answers = _answers(first, other)
    if not answers:
        return None
    counts: dict[str, list[int]] = {}
    for label, one, two in answers:
        row = counts.setdefault(label, [0, 0, 0])
        for place, value in enumerate((1, one, two)):
            row[place] += value
    moved = sorted(counts.items(), key=lambda item: (-abs(item[1][2] - item[1][1]), item[0]))
    rows = tuple(
        (shown(name, _WIDEST), str(images), str(one), str(two), f"{two - one:+d}")
        for name, (images, one, two) in moved[:_MOST_CLASSES]
        if one != two
    )
    if not rows:
        return None
    name = f"compare_classes-{other.name.strip('/').replace('/', '-')}" if is_named else "compare_classes"
    heads = ("class", "images", f"right: {first.name}", f"right: {other.name}", "moved")
    title = f"Classes that moved most, of {len(counts)}"
    return PaperTable(name, title, tuple((head, "") for head in heads), rows)


def _tested(first: ComparedRun, other: ComparedRun) -> str:
    """Returns a sentence on whether two runs differ by more than chance."""
    if first.record.data_fingerprint != other.record.data_fingerprint:
        return f"{other.name} and {first.name} were evaluated on other images: their figures do not compare."
    one, two = first.best, other.best
    points = 100 * (two["top_1_accuracy"] - one["top_1_accuracy"])
    if answers := _answers(first, other):
        pairs = [(first_is_right, other_is_right) for _, first_is_right, other_is_right in answers]
        only_first, only_other = pairs.count((True, False)), pairs.count((False, True))
        p = mcnemar(only_first, only_other)
        points = 100 * (only_other - only_first) / len(pairs)
        how = f"image by image {only_other} to {only_first}, p = {p:.2g} by McNemar's exact test"
    else:
        p = two_proportions(one["top_1_accuracy"], one["num_images"], two["top_1_accuracy"], two["num_images"])
        how = (
            f"p = {p:.2g} by a test that does not pair images; with the predictions that `report RUN` of both keeps, "
            "they are paired"
        )
    verdict = "may be chance" if p >= CHANCE else "is more than chance between these images"
    return f"{other.name} beside {first.name}: {points:+.2f} points, which {verdict} ({how}). Seeds are another matter."


def _answers(first: ComparedRun, other: ComparedRun) -> list[tuple[str, bool, bool]]:
    """Returns the class of each image and whether each run recognizes it; none where the predictions of both are not
    kept, or are for other labels or in another order.
    """
    one, two = first.predictions, other.predictions
    if not (one and two) or one.labels != two.labels:
        return []
    return list(zip(one.labels, one.correct, two.correct, strict=True))


def _labels(names: Sequence[str]) -> list[str]:
    """Returns what tells directories apart: without the folder that all of them are in, where that is a local one."""
    if any("://" in name for name in names):
        return list(names)
    paths = [os.path.abspath(name) for name in names]
    common = os.path.commonpath(paths)
    return [os.path.relpath(path, common) if path != common else name for path, name in zip(paths, names, strict=True)]


def _columns(runs: Sequence[ComparedRun]) -> tuple[tuple[str, str], ...]:
    return (("", ""), *((run.name, "") for run in runs))
