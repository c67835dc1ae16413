"""Which room may import which: one way, nothing comes back (the rooms are in CONTRIBUTING.md)."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "segic_d2"
GROUND = {"utils", "io", "structures", "config"}
EVERY = GROUND | {"checkpoint", "modeling", "data", "evaluation", "engine", "export", "predictor"}
MAY = {  # room → the rooms that it may import beside itself
    **dict.fromkeys(GROUND, GROUND),
    "checkpoint": GROUND,
    "modeling": GROUND | {"checkpoint"},
    "data": GROUND,
    "evaluation": {"structures"},
    "predictor": GROUND | {"checkpoint", "modeling"},
    "engine": EVERY - {"export", "predictor"},
    "export": GROUND | {"checkpoint", "modeling"},
}
END = (), ("__init__",)  # a module, or a package
SHARED = {"backbone", "text", "layers", "protocol"}  # of modeling: what every model may import


def test_compat_imports_no_room():
    assert not list(imports(PACKAGE / "compat.py"))


def imports(file):
    """The modules of this package that a file imports, wherever in it, as tuples of names."""
    here = file.relative_to(PACKAGE.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base, alias.name)[1:] for alias in node.names if base[0] == "segic_d2")
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            yield from (tuple(name[1:]) for name in names if name[0] == "segic_d2")


@pytest.mark.parametrize("room", sorted(p.name for p in PACKAGE.iterdir() if p.is_dir()))
def test_rooms_import_one_way(room):
    for file in (PACKAGE / room).rglob("*.py"):
        inner = file.relative_to(PACKAGE).parts[1]
        for module in imports(file):
            assert module[0] in MAY[room] | {room, "compat"}, f"{file} imports {'.'.join(module)}"
            if room == "predictor" and module[0] == "modeling":
                assert module[1] == "protocol", f"{file} imports {'.'.join(module)}"
            if room == module[0] == "modeling" and inner != "__init__.py":
                assert module[1] in SHARED | {inner}, f"{file} imports {'.'.join(module)}"


def test_no_file_imports_itself_by_a_detour():
    """Also not for types alone."""
    files = {f.relative_to(PACKAGE).with_suffix("").parts: f for f in PACKAGE.rglob("*.py")}

    def file_of(module):
        packages = ((*module[:n], *end) for n in range(len(module), -1, -1) for end in END)
        return next(name for name in packages if name in files)

    graph = {name: {file_of(m) for m in imports(f)} - {name} for name, f in files.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(files)  # else CycleError


def test_the_command_line_stands_on_top():
    """Its modules import the standard library and each other; the rest when a command runs."""
    for file in (PACKAGE.parent / "segic_cli").glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names, file
    known = {f.name for f in PACKAGE.rglob("*.py") if "segic_cli" in f.read_text(encoding="utf-8")}
    assert known == {"__main__.py"}
