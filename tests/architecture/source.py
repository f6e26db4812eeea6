"""Reads the source of the house once, as syntax trees, for the architecture tests."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("config", "ledger", "watchers", "gateway", "signer")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Module:
    """One source file. `path` is relative to the root, with forward slashes."""

    path: str
    name: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package of the house that the file belongs to."""
        return self.path.partition("/")[0]

    def within(self, *folders: str) -> bool:
        """True when the file lies in one of the folders, or is one of the files."""
        return any(self.path == f or self.path.startswith(f.rstrip("/") + "/") for f in folders)

    def where(self, node: ast.AST) -> str:
        """`path:line` for a message."""
        return f"{self.path}:{getattr(node, 'lineno', 0)}"


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the five packages."""
    found = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            path = file.relative_to(ROOT).as_posix()
            name = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            text = file.read_text(encoding="utf-8")
            tree = ast.parse(text, filename=path)
            found.append(Module(path=path, name=name, text=text, tree=tree))
    return tuple(found)


def imported_names(module: Module) -> Iterator[tuple[str, ast.AST]]:
    """Absolute dotted names that the module imports, imports inside functions included.

    `from a import b` yields `a.b`: `b` may be a module.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.name.split(".")
                if not module.path.endswith("__init__.py"):
                    parts = parts[:-1]
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            for alias in node.names:
                yield f"{base}.{alias.name}", node


@cache
def parents(module: Module) -> dict[ast.AST, ast.AST]:
    """Child to parent, for every node of the module."""
    return {child: node for node in ast.walk(module.tree) for child in ast.iter_child_nodes(node)}


def ancestors(module: Module, node: ast.AST) -> Iterator[ast.AST]:
    """The nodes around `node`, innermost first."""
    links = parents(module)
    while node in links:
        node = links[node]
        yield node


def enclosing_function(module: Module, node: ast.AST) -> str:
    """The name of the innermost function around `node`, or an empty text."""
    for parent in ancestors(module, node):
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef):
            return parent.name
    return ""


def docstrings(module: Module) -> set[ast.AST]:
    """The constants that are docstrings, and strings that stand alone as comments."""
    return {
        node.value
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
