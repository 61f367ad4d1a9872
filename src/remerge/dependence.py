"""The files that a result depends on, from what they import, without importing them."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from remerge import sources
from remerge.errors import UserError

PLUMBING = {"errors", "files", "config", "journal", "contents", "notes", "sources", "versions"}
"""Modules on which no number depends."""


def scoring(family: str, linear: bool = False) -> list[Path]:
    """The files that the scores of a family's models, or linearised models, depend on, without imports."""
    more = [sources.FAMILIES / "linearised.py"] if linear else []
    return [sources.families()[family].file, sources.PACKAGE / "measures" / "score.py", *more]


def merging(plan: str) -> list[Path]:
    """The files that make and judge a plan's merges, besides those of the method, without imports."""
    files = ("stages/merges.py", "stages/selection.py", f"plans/{plan}.py")
    return [sources.PACKAGE / file for file in files]


def sources_of(method: str, params: Mapping[str, Any]) -> list[Path]:
    """The files that a method's results depend on, its own first: see `closure`."""
    methods = sources.known()
    over = str(params.get("over", "")).partition("@")[0]
    files = [methods[name].file for name in (method, over) if name in methods]
    return closure(*files)


def closure(*roots: Path) -> list[Path]:
    """The files, then those of remerge that they import, directly or through others.

    A package counts as its ``__init__``. This leaves out `PLUMBING`, remerge's own ``__init__``, imports for
    type checkers only, and imports by a computed name.
    """
    files = dict.fromkeys(roots)
    queue = list(files)
    while queue:
        for file in _imported(queue.pop(0)):
            if file not in files:
                files[file] = None
                queue.append(file)
    return list(files)


def _imported(file: Path) -> tuple[Path, ...]:
    """The files of remerge that a file imports, each once."""
    return _imports(file, file.stat().st_mtime_ns)


@cache
def _imports(file: Path, modified: int) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(_named(file, sources.parsed(file))))


def _named(file: Path, code: ast.Module) -> Iterator[Path]:
    package = sources.PACKAGE
    for node in _run(code):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level and not file.is_relative_to(package):
                raise UserError(f"{file}:{node.lineno}: in no package: write the import in full")
            above = [] if not node.level else [package.name, *file.relative_to(package).parts[: -node.level]]
            module = ".".join([*above, *filter(None, [node.module])])
            # The imported name may be a module itself.
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] == package.name and not {*parts[1:2]} & PLUMBING:
                # Importing a module runs the packages that contain it.
                files = [sources.module_of(".".join(parts[:depth])) for depth in range(2, len(parts) + 1)]
                yield from filter(None, files)


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all its children, except those only for type checkers."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _run(child)
