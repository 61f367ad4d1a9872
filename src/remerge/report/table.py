"""A table, printed in four ways: csv (every number), markdown, LaTeX (booktabs), HTML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

MISSING = "–"
LONG = 80
"""The letters of a cell beyond which a page breaks its line."""
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\`{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # After a line end, LaTeX would take these for its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "\n": " ",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "λ": r"$\lambda$",
    "τ": r"$\tau$",
    "₀": r"\textsubscript{0}",
    "ρ": r"$\rho$",
    "‖": r"$\Vert$",
}


@dataclass(frozen=True)
class Column:
    """A printed column.

    Attributes:
        key: the frame's column with its values.
        head: its head.
        group: a head above it, which neighbours with the same group share.
        digits: the digits behind the point of its numbers; None for a column of texts.
        half_width: the frame's column with the half-widths of intervals, printed behind ±.
        scientific: whether its numbers are printed as 2.0e−2 instead of 0.02.
    """

    key: str
    head: str
    group: str = ""
    digits: int | None = None
    half_width: str = ""
    scientific: bool = False


@dataclass(frozen=True)
class Table:
    """Rows and columns; the frame may have more columns than are printed.

    Attributes:
        frame: every number.
        columns: the printed columns.
        bold: the cells in bold, by row and column.
        rules: the rows with a rule above them.
        facts: the values of fields in the caption.
    """

    frame: pd.DataFrame
    columns: tuple[Column, ...]
    bold: frozenset[tuple[int, str]] = field(default_factory=frozenset)
    rules: frozenset[int] = field(default_factory=frozenset)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def cells(self) -> list[list[str]]:
        """The printed cells, row by row, without marks."""
        records = self.frame.to_dict("records")
        return [[_text(record, column) for column in self.columns] for record in records]

    def csv(self) -> str:
        """Every column of the frame, numbers to six digits."""
        return str(self.frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))

    def styled(self, caption: str) -> "Styler":
        """The table as pandas shows it in a notebook: the printed cells, with those in bold."""
        plain = pd.DataFrame(self.cells(), dtype=str)
        bold = [
            ["font-weight: bold" if (row, c.key) in self.bold else "" for c in self.columns]
            for row in plain.index
        ]
        marks = pd.DataFrame(bold, index=plain.index, columns=plain.columns)
        shown = plain.style.apply(lambda _: marks, axis=None).hide(axis="index").set_caption(caption)
        return shown.relabel_index([_flat(column) for column in self.columns], axis="columns")

    def markdown(self, title: str, caption: str) -> str:
        """A GitHub table, with the title above and the caption below."""
        heads = [_flat(column).replace("|", r"\|") for column in self.columns]
        marks = ["---" if column.digits is None else "---:" for column in self.columns]
        rows = [heads, marks]
        for number, cells in enumerate(self.cells()):
            escaped = [cell.replace("|", r"\|") for cell in cells]
            rows.append(
                [
                    f"**{cell}**" if (number, column.key) in self.bold else cell
                    for column, cell in zip(self.columns, escaped, strict=True)
                ]
            )
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([f"**{title}**", "", *lines, "", caption, ""])

    def latex(self, name: str, title: str, caption: str) -> str:
        """A table environment, labelled ``tab:<name>``; needs ``\\usepackage{booktabs}``, nothing else."""
        lines = [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            *self._latex_size(),
            rf"\caption{{{_latex(title)}. {_latex(caption)}}}",
            rf"\label{{tab:{name}}}",
            rf"\begin{{tabular}}{{{''.join('l' if c.digits is None else 'r' for c in self.columns)}}}",
            r"\toprule",
            *self._latex_groups(),
            " & ".join(_latex(column.head) for column in self.columns) + r" \\",
            r"\midrule",
        ]
        for number, cells in enumerate(self.cells()):
            if number in self.rules:
                lines.append(r"\midrule")
            printed = [
                rf"\textbf{{{_latex(cell)}}}" if (number, column.key) in self.bold else _latex(cell)
                for column, cell in zip(self.columns, cells, strict=True)
            ]
            lines.append(" & ".join(printed) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])

    def html(self) -> str:
        """A bare ``<table>``; rows below a rule have the class ``rule``, those of a variant its name."""
        body = []
        variants = self.frame["variant"].tolist() if "variant" in self.frame else [None] * len(self.frame)
        for number, cells in enumerate(self.cells()):
            row = []
            for place, (column, cell) in enumerate(zip(self.columns, cells, strict=True)):
                tag = 'th scope="row"' if place == 0 else "td"
                kind = "n" if column.digits is not None else "wrap" if place and len(cell) > LONG else ""
                styled = f' class="{kind}"' if kind else ""
                marked = (number, column.key) in self.bold
                inner = f"<b>{escape(cell)}</b>" if marked else escape(cell)
                row.append(f"<{tag}{styled}>{inner}</{tag[:2]}>")
            rule = ' class="rule"' if number in self.rules else ""
            name = variants[number]
            of = f' data-variant="{escape(name)}"' if isinstance(name, str) else ""
            body.append(f"<tr{rule}{of}>{''.join(row)}</tr>")
        return f"<table><thead>{self._html_head()}</thead>\n<tbody>" + "\n".join(body) + "</tbody></table>"

    def _groups(self) -> list[tuple[str, int]]:
        if not any(column.group for column in self.columns):
            return []
        return [(head, len(list(same))) for head, same in groupby(c.group for c in self.columns)]

    def _latex_size(self) -> list[str]:
        """Smaller letters and gaps for wide tables."""
        for width, size, gap in ((12, r"\scriptsize", 3), (8, r"\small", 4)):
            if len(self.columns) > width:
                return [size, rf"\setlength{{\tabcolsep}}{{{gap}pt}}"]
        return []

    def _latex_groups(self) -> list[str]:
        cells: list[str] = []
        rules: list[str] = []
        at = 1
        for head, width in self._groups():
            spanned = rf"\multicolumn{{{width}}}{{c}}{{{_latex(head)}}}"
            cells += [spanned] if head else [""] * width
            if head:
                rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
            at += width
        return [" & ".join(cells) + r" \\", " ".join(rules)] if cells else []

    def _html_head(self) -> str:
        groups = "".join(
            f'<th colspan="{width}" class="g">{escape(head)}</th>' if head else "<td></td>" * width
            for head, width in self._groups()
        )
        heads = "".join(
            f'<th scope="col"{"" if c.digits is None else " class=n"}>{escape(c.head)}</th>'
            for c in self.columns
        )
        return (f"<tr>{groups}</tr>" if groups else "") + f"<tr>{heads}</tr>"


def number(value: float, digits: int, scientific: bool = False) -> str:
    """A number as printed: with a true minus sign, no minus zero, and a dash for NaN."""
    if pd.isna(value):
        return MISSING
    if scientific:
        mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")


def _text(record: dict[Any, Any], column: Column) -> str:
    value = record[column.key]
    if column.digits is None:
        return str(value)
    text = number(value, column.digits, column.scientific)
    spread = record[column.half_width] if column.half_width else float("nan")
    return text if pd.isna(spread) else f"{text} ± {number(spread, column.digits)}"


def _flat(column: Column) -> str:
    return f"{column.group}: {column.head}" if column.group else column.head


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
