"""The files that a result depends on, from what they import, without importing them."""

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from remerge import sources
from remerge.errors import UserError

PLUMBING = {"errors", "files", "config", "journal", "contents", "notes", "sources", "versions"}
"""Modules on which no number depends."""

INSTALLED = {"site-packages", "dist-packages"}
"""The folders of modules that change only by another installation."""


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
    type checkers only, and imports by a computed name. What files outside remerge import belongs to it, too,
    unless it is installed.
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
    """The files that a file imports and whose changes count, each once."""
    return _imports(file, file.stat().st_mtime_ns)


@cache
def _imports(file: Path, modified: int) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(_named(file, sources.parsed(file))))


def _named(file: Path, code: ast.Module) -> Iterator[Path]:
    for node in _run(code):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(file, 0, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            if node.level and file in sources.OWN.values():
                raise UserError(f"{file}:{node.lineno}: in no package: write the import in full")
            module = node.module.split(".") if node.module else []
            yield from _files(file, node.level, module)
            for alias in node.names:
                # The imported name may be a module itself.
                yield from _files(file, node.level, [*module, alias.name])


def _files(file: Path, level: int, parts: list[str]) -> Iterator[Path]:
    """The files of a module whose changes count: remerge's, and for files outside it what may be edited."""
    package = sources.PACKAGE
    outside = not file.is_relative_to(package)
    if level and outside:
        yield from _along([file.parents[level - 1]], parts)
        return
    if level:
        parts = [package.name, *file.relative_to(package).parts[:-level], *parts]
    if parts[0] == package.name and not {*parts[1:2]} & PLUMBING:
        # Importing a module runs the packages that contain it.
        files = [sources.module_of(".".join(parts[:depth])) for depth in range(2, len(parts) + 1)]
        yield from filter(None, files)
    elif parts[0] != package.name and outside and parts[0] not in sys.stdlib_module_names:
        spec = find_spec(parts[0])
        if spec and spec.submodule_search_locations:
            yield from _along([Path(folder).parent for folder in spec.submodule_search_locations], parts)
        elif spec and spec.origin:
            yield from _along([Path(spec.origin).parent], parts[:1])


def _along(folders: list[Path], parts: list[str]) -> Iterator[Path]:
    """The files, not installed, that run when a module in one of the folders is imported."""
    for folder in folders:
        for depth in range(1, len(parts) + 1):
            path = folder.joinpath(*parts[:depth])
            if not INSTALLED & {*path.parts}:
                yield from filter(Path.is_file, [path.with_suffix(".py"), path / "__init__.py"])


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all its children, except those only for type checkers."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _run(child)
