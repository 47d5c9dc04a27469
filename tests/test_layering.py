"""The rules of the house that a program can check: imports point one way, and pure modules stay pure."""

import ast
import tomllib
from collections import Counter

from tests.support.source_tree import PACKAGE, ROOT, imported_modules, imported_names, modules, without_shape

# A module imports from rows above its room's, or from its own room. A room is a folder, or a module, at the top.
ROOMS = (
    ("errors", "installation"),
    ("texts",),
    ("config",),
    ("hardware",),
    ("storage",),
    ("display", "models"),
    ("data",),
    ("training",),
    ("run",),
    ("evaluate", "weights", "exporting"),
    ("plan",),
    ("fitting_batch", "launch", "data_inspection"),
    ("run_setup", "export", "model_inspection", "speed"),
    ("train", "predict", "paper"),
    ("studies", "first_checks", "comparison"),
    ("doctor",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
ROW_OF = {room: number for number, row in enumerate(ROOMS) for room in row}
MOST_FILES = 15  # in a folder
SLOW_LIBRARIES = {"tensorflow", "keras", "tensorflow_datasets", "tensorboard", "numba", "llvmlite"}
# Names that say nothing about what is inside.
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc"}

MODULES = modules()
IMPORTS = {name: set(imported_modules(imported_names(module.tree), MODULES)) for name, module in MODULES.items()}


def room(module):
    return MODULES[module].room


def folder(module):
    return MODULES[module].folder


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


def typed():
    """Names of the modules whose types are checked: pyproject.toml lists them, as files and as whole folders."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["basedpyright"]["include"]
    for entry in listed:
        path = ROOT / entry
        assert path.exists(), f"pyproject.toml: {entry} is not there"
    return [name for name, one in MODULES.items() if any(one.path.is_relative_to(ROOT / entry) for entry in listed)]


def test_every_module_has_a_room():
    assert {room(module) for module in MODULES} <= ROW_OF.keys()


def test_imports_point_one_way():
    wrong = [
        f"{module} imports {imported}"
        for module, names in IMPORTS.items()
        for imported in names
        if room(imported) != room(module) and ROW_OF[room(imported)] >= ROW_OF[room(module)]
    ]
    assert not wrong, "a room imports from rows above its own in ROOMS"


def test_no_import_is_a_circle():
    def visit(module, path):
        assert module not in path, f"circle: {' -> '.join([*path[path.index(module) :], module])}"
        for imported in IMPORTS[module] - done:
            visit(imported, [*path, module])
        done.add(module)

    done = set()
    for module in MODULES:
        visit(module, [])


def test_folders_of_a_room_do_not_import_each_other_both_ways():
    arrows = {(folder(module), folder(one)) for module, names in IMPORTS.items() for one in names}
    inside = {(a, b) for a, b in arrows if a != b and a.partition(".")[0] == b.partition(".")[0]}
    # What lies loose in a room opens its folders, and holds what they share.
    assert not [pair for pair in inside if pair[::-1] in inside and "." in pair[0] and "." in pair[1]]


def test_typed_modules_start_without_tensorflow():
    pure = set(typed())
    for module in pure:
        for statement in at_import(MODULES[module].tree):
            names = imported_names(statement)
            assert not {name.partition(".")[0] for name in names} & SLOW_LIBRARIES, (
                f"{module}: {ast.unparse(statement)}"
            )
            impure = set(imported_modules(names, MODULES)) - pure
            assert not impure, f"{module} starts without TensorFlow and imports {impure}, whose types are not checked"


def test_help_tables_and_formulas_start_without_tensorflow():
    assert {"cli", "plan.planner", "paper.reproduce", "studies.scale_to_budget", "launch.launch"} <= set(typed())


def test_packages_do_nothing_when_imported():
    for path in (ROOT / PACKAGE).rglob("__init__.py"):
        assert len(path.read_text().splitlines()) <= 1, path


def test_names_say_what_is_inside():
    assert not [module for module in MODULES if set(module.split(".")) & DRAWERS]


def test_rooms_are_small_enough_to_know():
    crowded = {name: count for name, count in Counter(map(folder, MODULES)).items() if count > MOST_FILES}
    assert not crowded


def test_functions_over_tensors_give_shapes():
    missing = {name: names for name, module in MODULES.items() if (names := without_shape(module))}
    assert not missing, "a docstring needs a shape in brackets, [batch, channels], or the word scalar"


def test_main_is_flags_to_config_to_command():
    assert imported_names(ast.parse((ROOT / "main.py").read_text())) == [f"{PACKAGE}.__main__.main"]
