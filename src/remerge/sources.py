"""The declarations of the files of methods and families, and the papers that have exhibits.

Nothing is imported, nor is torch: the workflow, the report and the configuration use this for planning.
"""

import ast
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from remerge.errors import UserError, cause_of

PACKAGE = Path(__file__).parent
METHODS = PACKAGE / "methods"
FAMILIES = PACKAGE / "families"
EXHIBITS = PACKAGE / "exhibits"
GENERAL, COMPARE = "general", "compare"
"""The folders of exhibits that belong to no paper."""

OWN: dict[str, Path] = {}
"""The files of methods that configurations have named, by the method."""


@dataclass(frozen=True)
class Known:
    """The declarations of a method's file.

    Attributes:
        name: the name of the method and its file.
        file: the file that defines it.
        family: the file's folder.
        label: its name in print.
        citation: the authors who proposed it.
        learned: whether its coefficients are learned on inputs.
        answers: whether it compares with the experts' answers.
        experts: the number of experts that it merges; None for any number.
        statistics: the statistics of each expert that it needs, a function of `remerge.measures.curvature`.
        whole: whether it needs memory for a second copy of all deltas.
        defaults: the defaults of its parameters, without those that have none.
    """

    name: str
    file: Path
    family: str
    label: str
    citation: str
    learned: bool
    answers: bool
    experts: int | None
    statistics: str | None
    whole: bool
    defaults: Mapping[str, Any]


def add(files: Iterable[Path]) -> None:
    """Let methods of other files be known from now on.

    Raises:
        ValueError: a file is missing, has no name for a method, or the name of another method.
    """
    for file in map(Path.resolve, files):
        name = file.stem
        if file.suffix != ".py" or not name.isidentifier() or name[0] == "_":
            raise ValueError(f"{file.name} cannot be named after a method: call it my_method.py or the like")
        if not file.is_file():
            raise ValueError(f"{file} is missing: put it there, or leave it out")
        kept = OWN.get(name, file)
        # A copy of a project has a copy of the file.
        differs = kept.is_file() and kept.read_bytes() != file.read_bytes()
        if other := next(METHODS.rglob(file.name), kept if differs else None):
            raise ValueError(f"{file}: {other} has the same name: rename one")
        OWN[name] = file


def failure_in_own(error: BaseException) -> str:
    """An error in words, with the line of a configuration's own file that failed; empty if it was none's."""
    files = {str(file) for file in OWN.values()}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in files]
    if not frames:
        return ""
    words = dict.fromkeys([type(error).__name__, cause_of(error)])
    return f"{frames[-1].filename}:{frames[-1].lineno}: {': '.join(words)}"


@contextmanager
def without_own() -> Iterator[None]:
    """Find no method of a configuration's own file, so that none is run."""
    kept = dict(OWN)
    OWN.clear()
    try:
        yield
    finally:
        OWN.update(kept)


def method_files() -> list[Path]:
    """The file of every method, in the order of families and files; then those of configurations."""
    return [*(file for file in sorted(METHODS.rglob("*.py")) if file.stem[0] != "_"), *OWN.values()]


def folder_of(file: Path) -> str:
    """The family of a method: the folder of its file, or ``own`` outside these."""
    return file.parent.name if METHODS in file.parent.parents else "own"


def known() -> dict[str, Known]:
    """Every method by name, in the order of families and files.

    Raises:
        UserError: a file defines no method of its name, or cannot be read without running it.
    """
    return dict(_known(tuple((file, file.stat().st_mtime_ns) for file in method_files())))


@cache
def _known(files: tuple[tuple[Path, int], ...]) -> Mapping[str, Known]:
    """The methods in files with these times of change: reading them takes 20 ms, and happens often."""
    found: dict[str, Known] = {}
    for file, _ in files:
        if file.stem in found:
            raise UserError(f"{file}: {found[file.stem].file} has the same name: rename one")
        found[file.stem] = _read(file)
    return found


@dataclass(frozen=True)
class KnownFamily:
    """The declarations of a family's file.

    Attributes:
        name: the name of the family and its file.
        file: the file that defines it.
        class_name: the name of its class.
        reads: the kind of its models' inputs, ``text`` or ``image``.
        speaks: whether they answer in words; otherwise with the classes of a head.
        fixed_heads: whether it is a `remerge.families.FixedHeads`, that is, defines ``outputs``.
    """

    name: str
    file: Path
    class_name: str
    reads: str
    speaks: bool
    fixed_heads: bool


def families() -> dict[str, KnownFamily]:
    """Every family by name: a file with a class that declares ``reads`` and ``speaks``."""
    found: dict[str, KnownFamily] = {}
    for file in sorted(FAMILIES.glob("[!_]*.py")):
        for node in parsed(file).body:
            if isinstance(node, ast.ClassDef):
                said = {
                    ast.unparse(line.targets[0]): _literal(file, "a family's property", line.value)
                    for line in node.body
                    if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) in ("reads", "speaks")
                }
                if said:
                    fixed_heads = any(getattr(line, "name", "") == "outputs" for line in node.body)
                    found[file.stem] = KnownFamily(
                        file.stem, file, node.name, said["reads"], said["speaks"], fixed_heads
                    )
    return found


def papers() -> list[str]:
    """The papers that have exhibits."""
    folders = (file.parent.name for file in EXHIBITS.glob("*/__init__.py"))
    return sorted({*folders} - {GENERAL, COMPARE})


def _read(file: Path) -> Known:
    """A method's file."""
    call = _decorator(file)
    given = {keyword.arg or "**": keyword.value for keyword in call.keywords}
    if call.args or "**" in given:
        raise UserError(f"{file}:{call.lineno}: write the decorator's arguments as name=value")
    learned = ast.unparse(call.func) == "objective"
    for name in ("label", "citation", *(["epochs"] if learned else [])):
        if name not in given:
            raise UserError(f"{file}:{call.lineno}: the decorator has no {name}: add it")
    defaults = _defaults(file, ast.unparse(given["parameters"]) if "parameters" in given else file.stem)
    if learned:
        epochs = _literal(file, "epochs", given["epochs"])
        defaults |= {**_defaults(METHODS / "_learning.py", "Learning"), "epochs": epochs}
    return Known(
        name=file.stem,
        file=file,
        family=folder_of(file),
        label=_literal(file, "label", given["label"]),
        citation=_literal(file, "citation", given["citation"]),
        learned=learned,
        **_needs(file, given.get("needs")),
        defaults=defaults,
    )


def _decorator(file: Path) -> ast.Call:
    """The call that registers a file's method."""
    for node in parsed(file).body:
        if isinstance(node, ast.FunctionDef) and node.name == file.stem:
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in ("method", "objective"):
                    return decorator
    raise UserError(
        f"{file}: no def {file.stem} under @method(…) or @objective(…): add it, or name a helper _{file.name}"
    )


def _needs(file: Path, node: ast.expr | None) -> dict[str, Any]:
    """The arguments of ``Needs(…)``, with its defaults."""
    needs: dict[str, Any] = {"experts": None, "answers": False, "statistics": None, "whole": False}
    if node is None:
        return needs
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Needs" and not node.args:
        given = {keyword.arg or "**": keyword.value for keyword in node.keywords}
        if given.keys() <= needs.keys():
            return needs | {name: _literal(file, f"needs: {name}", value) for name, value in given.items()}
    raise UserError(f"{file}:{node.lineno}: write needs=Needs(…), with any of {', '.join(needs)}")


def _defaults(file: Path, name: str) -> dict[str, Any]:
    """The defaults of a function's keyword-only arguments or a class's fields, defined or imported here."""
    pairs: list[tuple[str, ast.expr | None]] = []
    for node in parsed(file).body:
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
            source = module_of(node.module)
            if source:
                return _defaults(source, name)
        if isinstance(node, ast.FunctionDef) and node.name == name:
            arguments = [argument.arg for argument in node.args.kwonlyargs]
            pairs = list(zip(arguments, node.args.kw_defaults, strict=True))
        if isinstance(node, ast.ClassDef) and node.name == name:
            fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
            pairs = [(ast.unparse(field.target), field.value) for field in fields]
    return {name: _literal(file, name, value) for name, value in pairs if value is not None}


def _literal(file: Path, what: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise UserError(
            f"{file}:{node.lineno}: {what} is {ast.unparse(node)}: write out the value, as it is read "
            "without running the file"
        ) from None


def module_of(name: str) -> Path | None:
    """The file of a module of remerge; None if it is not a module, or is a folder without ``__init__``."""
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def parsed(file: Path) -> ast.Module:
    """A file's code, parsed again only after a change.

    Raises:
        UserError: it is not Python.
    """
    return _parse(file, file.stat().st_mtime_ns)


@cache
def _parse(file: Path, modified: int) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise UserError(f"{file}:{error.lineno or 1}: {error.msg}: correct the line") from None
    except ValueError as error:  # some versions of Python call null bytes so
        raise UserError(f"{file}:1: {error}: correct the line") from None
