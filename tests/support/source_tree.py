"""Measures the package's source: sizes, rooms, imports, private helpers, docstrings and comments.

`python -m tests.support.source_tree [ROOT]` prints the figures for the checkout at ROOT (this one if left out).
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "efficientnet_tpu"
ROOT = Path(__file__).parents[2]
TENSORS = {"Tensor", "ndarray", "KerasTensor"}
# `[batch, height, width, 3]`, `[..., channels]`, `[n]`, `[]`, or the word scalar.
SHAPE = re.compile(r"\[(\.\.\.|[\w*/+ -]*)(,\s*(\.\.\.|[\w*/+ -]+))*\]|\bscalars?\b")


@dataclass(frozen=True)
class Module:
    """A source file of the package. `name`: dotted, without the package's own: models.blocks."""

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        """The folder at the package's top that holds the module; the module itself where none does."""
        return self.name.partition(".")[0]

    @property
    def folder(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def functions(self) -> list[ast.FunctionDef]:
        """The functions at module level."""
        return [node for node in self.tree.body if isinstance(node, ast.FunctionDef)]

    @property
    def public_functions(self) -> list[ast.FunctionDef]:
        """Public functions at module level, and public methods and `call` of public classes."""
        classes = [node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
        methods = [node for one in classes for node in one.body if isinstance(node, ast.FunctionDef)]
        return [function for function in (*self.functions, *methods) if function.name[0] != "_"]


def modules(root: Path = ROOT) -> dict[str, Module]:
    """Returns every module of the package by name, packages' empty `__init__` left out."""
    package = root / PACKAGE
    paths = [path for path in sorted(package.rglob("*.py")) if path.name != "__init__.py"]
    named = [Module(".".join(path.relative_to(package).with_suffix("").parts), path) for path in paths]
    return {module.name: module for module in named}


def imported_names(tree: ast.AST) -> list[str]:
    """Returns the full names that the import statements below a node name, wherever they stand."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the full name"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def imported_modules(names: list[str], known: dict[str, Module]) -> list[str]:
    """Returns those of the full names that are modules of the package, or things inside one, as names of `known`."""
    found = []
    for name in names:
        package, *parts = name.split(".")
        if package != PACKAGE or not parts:
            continue
        candidates = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        module = next((candidate for candidate in candidates if candidate in known), None)
        assert module, f"{name}: no such module in {PACKAGE}/"
        found.append(module)
    return found


def takes_tensors(function: ast.FunctionDef) -> bool:
    """Returns whether an argument or the result is annotated as a tensor or an array, by itself or in a tuple."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    annotations = [argument.annotation for argument in arguments] + [function.returns]
    nodes = [node for annotation in annotations if annotation for node in _outside_callables(annotation)]
    return any(isinstance(node, ast.Attribute) and node.attr in TENSORS for node in nodes)


def _outside_callables(annotation: ast.AST) -> list[ast.AST]:
    if isinstance(annotation, ast.Subscript) and "Callable" in ast.unparse(annotation.value):
        return []
    return [annotation, *(node for child in ast.iter_child_nodes(annotation) for node in _outside_callables(child))]


def gives_shape(function: ast.FunctionDef) -> bool:
    """Returns whether the docstring holds a shape in brackets, or the word scalar."""
    return bool(SHAPE.search(ast.get_docstring(function) or ""))


def without_shape(module: Module) -> list[str]:
    """Returns the names of the module's public functions over tensors whose docstring gives no shape."""
    return [one.name for one in module.public_functions if takes_tensors(one) and not gives_shape(one)]


def code_lines(module: Module) -> int:
    """Returns the number of lines that hold code: no blank lines, comments or docstrings."""
    return len(_lines_of_code(module))


def comment_lines(module: Module) -> int:
    """Returns the number of comments, those at the end of a line of code included."""
    return sum(token.type == tokenize.COMMENT for token in _tokens(module))


def one_caller_helpers(module: Module) -> list[str]:
    """Returns the private functions at module level whose name occurs once in the module beside its definition."""
    loads = Counter(node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name))
    return [one.name for one in module.functions if one.name[0] == "_" and loads[one.name] == 1]


def _tokens(module: Module) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(module.text).readline))


def _lines_of_code(module: Module) -> set[int]:
    docstrings = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings |= set(range(node.lineno, node.end_lineno + 1))
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in _tokens(module):
        if token.type not in empty:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return lines - docstrings


def figures(root: Path) -> dict[str, str]:
    """Returns the figures of a checkout, by what they measure."""
    known = modules(root)
    every = known.values()
    functions = [one for module in every for one in module.functions]
    private = [one for one in functions if one.name[0] == "_"]
    over_tensors = [one for module in every for one in module.public_functions if takes_tensors(one)]
    imports = {module.name: set(imported_modules(imported_names(module.tree), known)) for module in every}
    code = sum(map(code_lines, every))
    comments = sum(map(comment_lines, every))
    top = [path for path in (root / PACKAGE).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    folders = Counter(module.folder or "(top)" for module in every)
    rooms = {(module.room, known[one].room) for module in every for one in imports[module.name]}
    return {
        "files": f"{len(known)}",
        "code lines": f"{code:,}",
        "entries at the package's top": f"{sum(path.name != '__init__.py' for path in top)}",
        "import edges per file": f"{sum(map(len, imports.values())) / len(known):.2f}",
        "arrows between rooms": f"{sum(one != other for one, other in rooms)}",
        "module-level functions, private": f"{len(functions)}, {len(private) / len(functions):.0%}",
        "private functions with one caller": f"{sum(len(one_caller_helpers(module)) for module in every)}",
        "public functions over tensors, with a shape": f"{len(over_tensors)}, {sum(map(gives_shape, over_tensors))}",
        "comments per 100 code lines": f"{100 * comments / code:.1f}",
        "comments per 100 code lines, models and training": f"{_comment_share(known, ('models', 'training')):.1f}",
        "files per folder": ", ".join(f"{folder} {count}" for folder, count in sorted(folders.items())),
    }


def _comment_share(known: dict[str, Module], rooms: tuple[str, ...]) -> float:
    inside = [module for module in known.values() if module.room in rooms]
    lines = sum(map(code_lines, inside))
    return 100 * sum(map(comment_lines, inside)) / lines if lines else 0.0


if __name__ == "__main__":
    for what, figure in figures(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT).items():
        print(f"{what}: {figure}")
