"""The rules of the house that a program can check: imports point one way, and pure modules stay pure."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "efficientnet_tpu"

# A module imports from strictly lower layers, or from its own folder. A folder (models, data) stands for all it holds.
LAYERS = (
    {"errors"},
    {"config"},
    {"hardware", "storage"},
    {"display", "models"},
    {"data"},
    {"training", "launch", "data_inspection"},
    {"run"},
    {"evaluate", "weights", "exporting"},
    {"train", "export", "model_inspection", "plan"},
    {"predict", "paper"},
    {"studies"},
    {"cli"},
)
LAYER_OF = {name: number for number, layer in enumerate(LAYERS) for name in layer}

# These answer without TensorFlow: --help, tables, formulas.
PURE = {
    "cli",
    "config.commands",
    "config.config",
    "config.option",
    "config.run",
    "data.augment.policies",
    "data.decoding.image_header",
    "data.records.tfrecord_layout",
    "display.terminal",
    "errors",
    "hardware.preemption",
    "hardware.tensorflow_startup",
    "hardware.tf_config",
    "hardware.tpu_discovery",
    "hardware.tpu_specs",
    "launch.launch",
    "launch.script",
    "model_inspection.report_page",
    "model_inspection.statistics",
    "model_inspection.svg_charts",
    "model_inspection.training_curves",
    "models.architecture",
    "models.baselines",
    "models.complexity",
    "models.compound_scaling",
    "models.stage_table",
    "paper.figures",
    "paper.other_networks",
    "paper.paper_table",
    "paper.planned_cost",
    "paper.published",
    "paper.reproduce",
    "paper.run_results",
    "paper.table_notes",
    "paper.tables",
    "plan.activation_memory",
    "plan.estimate",
    "plan.flops",
    "plan.hlo_cost",
    "plan.inference_report",
    "plan.planner",
    "plan.recipe_cost",
    "plan.report",
    "plan.roofline",
    "plan.suggestions",
    "plan.table",
    "run.confidence_interval",
    "run.early_stopping",
    "run.subprocess_training",
    "studies.grid_search",
    "studies.run_grid_search",
    "studies.run_scaling_study",
    "studies.scale_to_budget",
    "studies.scaling_study",
    "studies.trial",
    "training.learning_rate",
    "weights.layer_specs",
    "weights.name_mapping",
    "weights.naming_schemes",
    "weights.readers.pth_reader",
    "weights.readers.safe_unpickler",
    "weights.readers.stored_tensor",
    "weights.timm_models",
}
SLOW_LIBRARIES = {"tensorflow", "keras", "tensorflow_datasets", "tensorboard"}

# Names that say nothing about what is inside.
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc"}


def name_of(path):
    """`models.blocks` for efficientnet_tpu/models/blocks.py."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"}


def top(module):
    """The row of the table that a module belongs to."""
    return module.partition(".")[0]


def imported_by(tree):
    """Full names that the import statements below a node name, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(names):
    """Those of the names that are modules of this package, without its name: what stands in MODULES."""
    for name in names:
        parts = name.split(".")
        if parts[0] != PACKAGE.name:
            continue
        # `from efficientnet_tpu.config import Config` names a thing inside config.
        candidates = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
        found = next((candidate for candidate in candidates if candidate in MODULES), None)
        assert found or len(parts) == 1, f"{name}: no such module in {PACKAGE.name}/"
        if found:
            yield found


def at_import(tree):
    """The statements that run when a module is imported: no function bodies, no `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        else:
            yield from at_import(node)


def parse(module):
    return ast.parse(MODULES[module].read_text())


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_layer(module):
    assert top(module) in LAYER_OF, f"{module}: put `{top(module)}` into a layer of LAYERS in {Path(__file__).name}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    for imported in ours(imported_by(parse(module))):
        allowed = top(imported) == top(module) or LAYER_OF[top(imported)] < LAYER_OF[top(module)]
        assert allowed, f"{module} imports {imported}, which stands on its own layer or above it (see LAYERS)"


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_start_without_tensorflow(module):
    assert module in MODULES, f"{module}: no such module; take it out of PURE"
    for statement in at_import(parse(module)):
        names = list(imported_by(statement))
        assert not {top(name) for name in names} & SLOW_LIBRARIES, f"{module}: {ast.unparse(statement)}"
        for imported in ours(names):
            assert imported in PURE, f"{module} is pure and imports {imported}, which is not"


def test_pure_modules_are_the_ones_checked_for_types():
    import tomllib

    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["basedpyright"]["include"]
    assert sorted(checked) == sorted(f"{PACKAGE.name}/{module.replace('.', '/')}.py" for module in PURE)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_do_nothing_when_imported(path):
    assert len(path.read_text().splitlines()) <= 1


@pytest.mark.parametrize("module", MODULES)
def test_names_say_what_is_inside(module):
    assert not set(module.split(".")) & DRAWERS, f"{module}: name the file after what it does"


def test_main_is_flags_to_config_to_command():
    assert set(imported_by(ast.parse((ROOT / "main.py").read_text()))) == {f"{PACKAGE.name}.cli.run"}
