"""Tables and figures: one file each, found by its path.

``divmerge/table5.py`` is the exhibit `divmerge_table5`, for benchmarks whose configuration says ``paper:
divmerge``. Exhibits in the folders `general` (for every benchmark) and `compare` (for several benchmarks side
by side) are named after their file only. A file contains

- a docstring, with the title in its first line and the caption below, and ``{field}`` for values from the
  configuration (`Run.facts`) or the builder (``facts`` of its result),
- ``READS``, the records that it reads, named after the stages that write them,
- ``applies(config)``, if some benchmarks of its paper lack it; it is run without the rest of the file,
- ``build(run)``, which returns a `Table` or a `Figure`; in `compare`, both functions are given lists.

Published numbers are beside it in ``table5.csv``. Everything but ``build`` is read without importing the
file: the workflow uses it for planning, and pandas and matplotlib take a second.
"""

import __future__

import ast
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from remerge.config import Config
from remerge.dependence import closure
from remerge.errors import UserError
from remerge.sources import COMPARE, EXHIBITS, GENERAL, PACKAGE, papers, parsed

PRINTING = PACKAGE / "report" / "make.py"


@dataclass(frozen=True)
class Exhibit:
    """The declarations of an exhibit's file."""

    file: Path

    @property
    def folder(self) -> str:
        """A paper, `general` or `compare`."""
        return self.file.parent.name

    @property
    def name(self) -> str:
        """The name of its files in the results."""
        own = self.file.stem
        return own if self.folder in (GENERAL, COMPARE) else f"{self.folder}_{own}"

    @property
    def paper(self) -> str:
        """Its paper; empty if it is in none."""
        paper = self.name.partition("_")[0]
        return paper if paper in papers() else ""

    @property
    def source(self) -> str:
        """Where it was published, such as ``DivMerge, Table 5``; empty if it is in no paper."""
        return f"{title_of(self.paper)}, {_words(self.name.partition('_')[2])}" if self.paper else ""

    @property
    def title(self) -> str:
        """The first line of its docstring, with the fields that a run fills."""
        return (ast.get_docstring(self._tree) or "").partition("\n")[0].rstrip(".")

    @property
    def short(self) -> str:
        """A short name, such as ``Table 5`` or ``Seconds``; it includes the paper if there may be several."""
        return self.source if self.source and self.folder == COMPARE else _words(self.file.stem)

    @property
    def kind(self) -> Literal["table", "figure"]:
        """The return type that ``build`` declares."""
        returned = ast.unparse(self._function("build").returns or ast.Constant(None))
        kinds: dict[str, Literal["table", "figure"]] = {"Table": "table", "Figure": "figure"}
        if returned not in kinds:
            raise UserError(f"{self.file}: build returns {returned}: annotate it with Table or Figure")
        return kinds[returned]

    @property
    def reads(self) -> tuple[str, ...]:
        """The kinds of records that are read."""
        for node in self._tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "READS":
                reads: tuple[str, ...] = ast.literal_eval(node.value)
                return reads
        raise UserError(f'{self.file}: READS is missing: write READS = ("scores", …)')

    @property
    def files(self) -> list[Path]:
        """The files it depends on besides records: code, and published numbers in the exhibits' folders."""
        code = closure(self.file, PRINTING)
        folders = dict.fromkeys(file.parent for file in code if EXHIBITS in file.parents)
        return [*code, *(numbers for folder in folders for numbers in sorted(folder.glob("*.csv")))]

    def applies(self, config: Config | list[Config]) -> bool:
        """Whether it applies to a benchmark, or to several side by side."""
        folders = (COMPARE,) if isinstance(config, list) else (GENERAL, config.paper)
        if self.folder not in folders:
            return False
        if "applies" not in self._functions:
            return True
        alone = ast.Module([self._function("applies")], [])
        scope: dict[str, Any] = {}
        flags = __future__.annotations.compiler_flag
        exec(compile(alone, self.file, "exec", flags, dont_inherit=True), scope)
        return bool(scope["applies"](config))

    def text(self, facts: Mapping[str, Any]) -> tuple[str, str]:
        """Title and caption."""
        try:
            title, _, caption = (ast.get_docstring(self._tree) or "").format_map(facts).partition("\n")
        except KeyError as error:
            raise UserError(
                f"{self.file}: the docstring has an unknown field {{{error.args[0]}}}: put it into facts"
            ) from None
        return title.rstrip("."), " ".join(caption.split())

    def build(self, records: Any) -> Any:
        """The table or figure, made from one run or several."""
        inside = self.file.relative_to(EXHIBITS).with_suffix("").parts
        builder: Callable[[Any], Any] = importlib.import_module(".".join((__name__, *inside))).build
        return builder(records)

    @cached_property
    def _tree(self) -> ast.Module:
        return parsed(self.file)

    @cached_property
    def _functions(self) -> dict[str, ast.FunctionDef]:
        return {node.name: node for node in self._tree.body if isinstance(node, ast.FunctionDef)}

    def _function(self, name: str) -> ast.FunctionDef:
        if name not in self._functions:
            raise UserError(f"{self.file}: no function {name}: add it")
        return self._functions[name]


@cache
def known() -> dict[str, Exhibit]:
    """Every exhibit by name: figures first, then tables, by number."""
    found = [Exhibit(file) for file in EXHIBITS.glob("*/[!_]*.py")]
    return {exhibit.name: exhibit for exhibit in sorted(found, key=_place)}


def of(config: Config | list[Config]) -> dict[str, Exhibit]:
    """The exhibits of a benchmark (those of its paper first), or of several side by side."""
    mine = [exhibit for exhibit in known().values() if exhibit.applies(config)]
    return {exhibit.name: exhibit for exhibit in sorted(mine, key=lambda exhibit: exhibit.folder == GENERAL)}


def said_of(paper: str) -> tuple[str, str]:
    """A paper's title, and the explanation of what is left out, from the docstring of its folder."""
    code = (EXHIBITS / paper / "__init__.py").read_bytes()
    title, _, left_out = (ast.get_docstring(ast.parse(code)) or paper).partition("\n")
    return title.rstrip("."), " ".join(left_out.split())


def title_of(paper: str) -> str:
    """The short name of a paper: its title up to the colon."""
    return said_of(paper)[0].partition(":")[0]


def _words(name: str) -> str:
    """A name as it is printed: ``Table 5`` for ``table5``."""
    return re.sub(r"(?<=[a-z])(?=\d)|_", " ", name).capitalize()


def _place(exhibit: Exhibit) -> tuple[str, int, str, str]:
    number = re.search(r"\d+$", exhibit.file.stem)
    return exhibit.folder, int(number.group()) if number else 0, exhibit.kind, exhibit.name
