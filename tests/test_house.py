"""The house as docs/architecture.md draws it: one file a program, rooms without a circle, files that one can read."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import understudy

SOURCE = Path(understudy.__file__).parent
# Whoever loads a model of a kind of ours registers the kinds with the Auto classes first, as a user's script does.
REGISTERED = {"understudy.students.register"}
COMMANDS = [path.stem for path in sorted((SOURCE / "cli").glob("[a-z]*.py"))]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_program_and_a_function(name):
    assert name in understudy.__all__
    program = importlib.import_module(f"understudy.programs.{name}")
    assert getattr(understudy, name) is getattr(program, name)


def test_every_program_has_a_command():
    assert {path.stem for path in (SOURCE / "programs").glob("[a-z]*.py")} == set(COMMANDS)


def test_rooms_import_each_other_in_no_circle():
    arrows: dict[str, set[str]] = {}
    for room, other in _imports():
        arrows.setdefault(room, set()).add(other)
    while leaves := {room for others in arrows.values() for room in others} - arrows.keys():
        arrows = {room: left for room, others in arrows.items() if (left := others - leaves)}
    assert not arrows, f"rooms in a circle, or above one: {arrows}"


@pytest.mark.parametrize("path", sorted((SOURCE.parents[1] / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_what_benchmarks_import_is_there(path):
    """They run by hand, seldom, and would go on naming what moved."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("understudy"):
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or importlib.import_module(f"{node.module}.{name.name}")


def test_files_are_short():
    lines = {path: path.read_text("utf-8").count("\n") for path in SOURCE.rglob("*.py")}
    assert not {path: count for path, count in lines.items() if count > 400}


def _imports() -> Iterator[tuple[str, str]]:
    """Every import of one room (a folder, or a file beside the folders) by another, also those inside functions."""
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        tree = ast.parse(path.read_text("utf-8"))
        unseen = {id(inner) for node in ast.walk(tree) if _is_for_types(node) for inner in ast.walk(node)}
        for node in ast.walk(tree):
            if id(node) in unseen or not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            if isinstance(node, ast.Import):
                modules = [name.name for name in node.names if name.name.startswith("understudy.")]
            elif node.module == "understudy":
                modules = [f"understudy.{name.name}" for name in node.names]
            else:
                modules = [node.module] if (node.module or "").startswith("understudy.") else []
            for other in {module.split(".")[1] for module in set(modules) - REGISTERED} - {room, "__version__"}:
                if (SOURCE / other).is_dir() or (SOURCE / f"{other}.py").exists():
                    yield room, other


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
