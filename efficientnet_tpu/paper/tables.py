"""The paper's Tables 1 to 3 and 5 to 8, with our parameters and multiply-adds computed from block records.

`latency` measures Table 4. Nothing here needs TensorFlow.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from efficientnet_tpu.installation import program
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Variant
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.complexity import Complexity, count
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.paper import other_networks, published, run_results
from efficientnet_tpu.paper.paper_table import HERE, PAPER, Counted, PaperTable
from efficientnet_tpu.paper.run_results import RunResult
from efficientnet_tpu.paper.table_notes import TABLE_NOTES
from efficientnet_tpu.paper.training_commands import training_commands


def count_variant(variant: Variant) -> Complexity:
    """Counts a variant at ImageNet's 1000 classes."""
    return count(scale("", variant, NUM_IMAGENET_CLASSES))


def scaled_variant(row: dict[str, str]) -> Variant:
    """Returns the network of a row with the columns ours, depth, width and resolution."""
    return replace(
        MODELS[row["ours"]],
        depth_coefficient=float(row["depth"]),
        width_coefficient=float(row["width"]),
        resolution=int(row["resolution"]),
    )


def table_1(runs: Sequence[RunResult] = ()) -> PaperTable:
    """Returns EfficientNet-B0 beside the paper's Table 1, read off its list of convolutions."""
    b0 = scale("efficientnet-b0", MODELS["efficientnet-b0"], NUM_IMAGENET_CLASSES)
    stem, *middle, head, _ = b0.convolutions()
    ours = {1: ("Conv3x3", stem.input_size, stem.convolution.filters, 1)}
    for stage, members in itertools.groupby(range(len(b0.blocks)), key=lambda index: b0.blocks[index].stage):
        blocks = list(members)
        first, *_, last = rows = [row for row in middle if row.block == blocks[0]]
        depthwise = next(row.convolution for row in rows if row.convolution.kind == "depthwise")
        expand_ratio = depthwise.filters // first.convolution.input_filters
        operator = f"MBConv{expand_ratio}, k{depthwise.kernel_size}x{depthwise.kernel_size}"
        ours[stage + 1] = (operator, first.input_size, last.convolution.filters, len(blocks))
    ours[len(ours) + 1] = ("Conv1x1 & Pooling & FC", head.input_size, head.convolution.filters, 1)
    rows = []
    for row in published.read_rows("table1"):
        number = int(row["stage"])
        printed = (row["operator"], int(row["resolution"]), int(row["channels"]), int(row["layers"]))
        same = "yes" if ours[number] == printed else "no"
        rows.append((f"{number}", *map(str, printed), *map(str, ours[number]), same))
    names = ("operator", "resolution", "channels", "layers")
    columns = (("stage", ""), *((name, PAPER) for name in names), *((name, HERE) for name in names), ("same", ""))
    cost = count_variant(MODELS["efficientnet-b0"])
    note = f"In all {cost.trainable_params:,} parameters and {cost.multiply_adds:,} multiply-adds at 224 x 224."
    return PaperTable("table1", "Table 1: EfficientNet-B0 baseline network", columns, tuple(rows), (note,))


def table_2(runs: Sequence[RunResult] = ()) -> PaperTable:
    """Returns EfficientNets and other networks on ImageNet, with ratios to the EfficientNet of the same group."""
    rows, own = [], (0, 0)
    for row in published.read_rows("table2"):
        variant = MODELS.get(row["ours"])
        if variant:
            cost = count_variant(variant)
            params, flops = own = cost.trainable_params, cost.multiply_adds
        else:
            params, flops = other_networks.counts(row["ours"]) if row["ours"] else (None, None)
        rows.append((
            row["model"],
            row["top_1"],
            _accuracy(runs, variant, "top_1"),
            row["top_5"],
            _accuracy(runs, variant, "top_5"),
            *_compare(row["params"], params),
            *_compare(row["params_ratio"], params and params / own[0])[:2],
            *_compare(row["flops"], flops),
            *_compare(row["flops_ratio"], flops and flops / own[1])[:2],
        ))  # fmt: skip
    columns = [("model", ""), ("top-1", PAPER), ("top-1", HERE), ("top-5", PAPER), ("top-5", HERE)]
    for name in ("params", "FLOPs"):
        columns += [(name, PAPER), (name, HERE), ("differs", ""), ("ratio", PAPER), ("ratio", HERE)]
    variants = {row["ours"]: MODELS[row["ours"]] for row in published.read_rows("table2") if row["ours"] in MODELS}
    return PaperTable(
        "table2",
        "Table 2: EfficientNet performance on ImageNet",
        tuple(columns),
        tuple(rows),
        (*TABLE_NOTES["table2"], *run_results.describe_runs(runs, variants.values())),
        _missing_commands(variants.items(), runs),
    )


def _scaled_table(name: str, title: str, runs: Sequence[RunResult]) -> PaperTable:
    """Returns Table 3 or 7, whose rows are one scaled network each."""
    rows, variants = [], []
    for row in published.read_rows(name):
        variant = scaled_variant(row)
        variants.append((row["ours"], variant))
        cost = count_variant(variant)
        rows.append((
            row["model"],
            row["depth"],
            row["width"],
            row["resolution"],
            *_compare(row["flops"], cost.multiply_adds),
            Counted(cost.trainable_params, f"{cost.trainable_params / 1e6:.1f}M"),
            row["top_1"],
            _accuracy(runs, variant, "top_1"),
        ))  # fmt: skip
    columns = (
        ("model", ""), ("d", HERE), ("w", HERE), ("pixels", HERE), ("FLOPs", PAPER), ("FLOPs", HERE), ("differs", ""),
        ("params", HERE), ("top-1", PAPER), ("top-1", HERE),
    )  # fmt: skip
    shown = [variant for _, variant in variants]
    notes = (*TABLE_NOTES[name], *run_results.describe_runs(runs, shown))
    return PaperTable(name, title, columns, tuple(rows), notes, _missing_commands(variants, runs))


def table_3(runs: Sequence[RunResult] = ()) -> PaperTable:
    """Returns MobileNets and ResNet-50, scaled in one dimension and in all."""
    return _scaled_table("table3", "Table 3: scaling up MobileNets and ResNet", runs)


def table_7(runs: Sequence[RunResult] = ()) -> PaperTable:
    """Returns EfficientNet-B0 scaled in one dimension and in all: the models of Figure 7."""
    return _scaled_table("table7", "Table 7: scaled models of Figure 7", runs)


def table_5(runs: Sequence[RunResult] = ()) -> PaperTable:
    """Returns transfer learning, with our parameters without the classifier and the ratios that they give."""
    rows = []
    for row in published.read_rows("table5"):
        architecture = scale("", MODELS[row["ours"]], NUM_IMAGENET_CLASSES)
        params = count(architecture).trainable_params - (architecture.head_filters + 1) * NUM_IMAGENET_CLASSES
        ratio = published.parse_number(row["other_params"]) / params if row["other_params"] else None
        rows.append((
            row["dataset"], row["other_model"], row["other_accuracy"], row["other_params"], row["model"],
            row["accuracy"], *_compare(row["params"], params), *_compare(row["params_ratio"], ratio)[:2],
        ))  # fmt: skip
    columns = (
        ("data set", ""), ("best other", PAPER), ("accuracy", PAPER), ("params", PAPER), ("EfficientNet", PAPER),
        ("accuracy", PAPER), ("params", PAPER), ("params", HERE), ("differs", ""), ("ratio", PAPER), ("ratio", HERE),
    )  # fmt: skip
    return PaperTable("table5", "Table 5: transfer learning", columns, tuple(rows), TABLE_NOTES["table5"])


def table_6(runs: Sequence[RunResult] = ()) -> PaperTable:
    """Returns the transfer data sets with the flags that name them, and the recipes."""
    rows, commands = [], []
    for row in published.read_rows("table6"):
        train, test = int(row["own_train"]), int(row["own_test"])
        flag = f"--dataset=tfds:{row['tfds']}" if row["tfds"] else "--data_dir=FOLDER"
        rows.append((
            row["dataset"],
            *(f"{int(row[name]):,}" for name in ("train", "test", "classes")),
            Counted(train, f"{train:,}"),
            Counted(test, f"{test:,}"),
            flag,
            row["remark"],
        ))  # fmt: skip
        commands.append(f"{program()} --flagfile=transfer-{row['recipe']} --init_from=... {flag} --model_dir=...")
    columns = (
        ("data set", ""), ("train", PAPER), ("test", PAPER), ("classes", PAPER), ("train", "data set"),
        ("test", "data set"), ("flag", HERE), ("remark", ""),
    )  # fmt: skip
    title = "Table 6: transfer learning data sets"
    return PaperTable("table6", title, columns, tuple(rows), TABLE_NOTES["table6"], tuple(commands))


def table_8(runs: Sequence[RunResult] = ()) -> PaperTable:
    """Returns validation against test accuracy."""
    rows, variants = [], {}
    for row in published.read_rows("table8"):
        variant = variants[row["ours"]] = MODELS[row["ours"]]
        rows.append((
            row["model"], row["val_top_1"], _accuracy(runs, variant, "top_1"), row["test_top_1"],
            row["val_top_5"], _accuracy(runs, variant, "top_5"), row["test_top_5"],
        ))  # fmt: skip
    columns = (
        ("model", ""), ("val top-1", PAPER), ("val top-1", HERE), ("test top-1", PAPER), ("val top-5", PAPER),
        ("val top-5", HERE), ("test top-5", PAPER),
    )  # fmt: skip
    notes = (*TABLE_NOTES["table8"], *run_results.describe_runs(runs, variants.values()))
    title = "Table 8: validation and test accuracy on ImageNet"
    return PaperTable("table8", title, columns, tuple(rows), notes, _missing_commands(variants.items(), runs))


TABLES: dict[int, Callable[[Sequence[RunResult]], PaperTable]] = {
    1: table_1,
    2: table_2,
    3: table_3,
    5: table_5,
    6: table_6,
    7: table_7,
    8: table_8,
}


def _compare(printed: str, value: float | None) -> tuple[str, str | Counted, str]:
    """Returns the paper's figure, ours in the same format, and the difference if the two are not the same."""
    if value is None or not printed:
        return printed, "", ""
    return printed, Counted(value, published.format_like(value, printed)), published.describe_difference(value, printed)


def _accuracy(runs: Iterable[RunResult], variant: Variant | None, name: str) -> str | Counted:
    run = run_results.find_best(runs, variant) if variant else None
    if run is None:
        return "-" if variant else ""
    value = 100 * getattr(run, name)
    return Counted(value, f"{value:.2f}")


def _missing_commands(variants: Iterable[tuple[str, Variant]], runs: Iterable[RunResult]) -> tuple[str, ...]:
    """Returns the commands that train the networks that no run has measured."""
    return training_commands((name, variant) for name, variant in variants if not run_results.find_best(runs, variant))
