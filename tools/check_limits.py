"""Print how large the package is against its limits; exit status 1 where one is passed.

    python tools/check_limits.py

LIMITS is the one table. A commit that adds a feature raises ``lines`` and ``keys`` by what it
adds and says why; the others stay.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "segic_d2"
LIMITS = {
    "lines": 33_195,  # of the package
    "longest file": 350,  # lines
    "longest constructor": 12,  # arguments, or fields of a dataclass
    "keys": 170,  # that add_segic_config adds
    "untyped": 0,  # public signatures without all their types
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def arguments(function: Function) -> list[ast.arg]:
    """The arguments of a function, without self and cls."""
    a = function.args
    listed = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return [arg for arg in listed if arg.arg not in ("self", "cls")]


def typed(function: Function) -> bool:
    """Whether all arguments and what is returned have a type."""
    returns = function.returns is not None or function.name == "__init__"
    return returns and all(arg.annotation is not None for arg in arguments(function))


def constructor(node: ast.ClassDef) -> int:
    """Arguments of a class's own constructor."""
    for item in node.body:
        if isinstance(item, Function) and item.name == "__init__":
            return len(arguments(item))
    if any("dataclass" in ast.unparse(d) for d in node.decorator_list):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        return sum("init=False" not in ast.unparse(item) for item in fields)
    return 0


def public(tree: ast.Module | ast.ClassDef) -> Iterator[Function]:
    """The functions and methods that a user may call, constructors among them."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node)
        elif isinstance(node, Function) and (node.name[0] != "_" or node.name.endswith("__")):
            yield node


def measure(package: Path = PACKAGE) -> dict[str, tuple[int, str]]:
    """{limit: (value, where)} of a package, all but its keys."""
    lines, constructors, untyped, signatures = {}, {}, [], 0
    for path in sorted(package.rglob("*.py")):
        name, text = path.relative_to(package).as_posix(), path.read_text()
        lines[name], tree = len(text.splitlines()), ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                constructors[f"{name}: {node.name}"] = constructor(node)
        for function in public(tree):
            signatures += 1
            if not typed(function):
                untyped.append(f"{name}:{function.lineno} {function.name}")
    longest, most = max(lines, key=lines.get), max(constructors, key=constructors.get)
    return {
        "lines": (sum(lines.values()), f"{len(lines)} files"),
        "longest file": (lines[longest], longest),
        "longest constructor": (constructors[most], most),
        "untyped": (len(untyped), f"of {signatures}: {', '.join(untyped) or 'none'}"),
    }


def main() -> None:
    """Print the table."""
    from segic_d2.config import KEYS

    found = {**measure(), "keys": (len(KEYS), "segic_d2/config/keys.py")}
    for name, limit in LIMITS.items():
        value, where = found[name]
        print(f"{name:20} {value:7,} of {limit:7,}  {where}")
    sys.exit(any(found[name][0] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    main()
