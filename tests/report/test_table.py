import re
from dataclasses import replace

import pandas as pd

from remerge.report.table import Column, Table, number


def test_special_letters_are_escaped() -> None:
    frame = pd.DataFrame({"name": ["a_b & 50% <|>"], "x": [-0.001], "y": [float("nan")]})
    columns = (Column("name", "N_1"), Column("x", "x", digits=1), Column("y", "y", digits=1))
    table = Table(frame, columns)
    latex = table.latex("odd", "Odd_title", "100% ± λ")
    assert r"a\_b \& 50\% \textless{}\textbar{}\textgreater{} & 0.0 & -- \\" in latex
    assert r"\caption{Odd\_title. 100\% $\pm$ $\lambda$}" in latex
    assert r"a_b & 50% <\|>" in table.markdown("", "")
    assert r"| **a_b & 50% <\|>** |" in replace(table, bold=frozenset({(0, "name")})).markdown("", "")
    assert "a_b &amp; 50% &lt;|&gt;" in table.html()


def test_no_letter_is_a_command_of_latex() -> None:
    """A device, a model or a task may be called what it likes: nothing of it is a command."""
    hostile = "\\input{x} `id` $x$ ^^M #1 ~ & % _ {[*]} <!--> ?` | \n\n"
    table = Table(pd.DataFrame({"name": [hostile, "[1]", "*"]}), (Column("name", hostile),))
    latex = table.latex("odd", hostile, hostile)
    told = [line for line in latex.splitlines() if "textbackslash" in line]
    assert len(told) == 3  # caption, head, cell
    for line in told:
        inner = line.removeprefix(r"\caption{").removesuffix(r" \\").removesuffix("}")
        plain = re.sub(r"\\[a-z]+\{\}|\\`\{\}|\\[&%$#_{}]|\{[\[\]*]\}", "", inner)
        assert not set("\\`$^#~&%_{}<>|[*]") & set(plain), plain
    rows = latex[latex.index(r"\midrule") :].splitlines()
    assert not [row for row in rows if row.startswith(("[", "*"))]


def test_numbers() -> None:
    assert [number(x, 1) for x in (-1.25, -0.01, 2.0, float("nan"))] == ["−1.2", "0.0", "2.0", "–"]


def test_a_table_without_rows_is_whole() -> None:
    table = Table(pd.DataFrame({"name": []}), (Column("name", "Name"),))
    assert table.latex("odd", "", "").count(r"\midrule") == 1 and table.html() and table.markdown("", "")


def test_a_page_breaks_the_line_of_a_long_text() -> None:
    """The coefficients of every layer and expert, which would make the table many pages wide."""
    frame = pd.DataFrame({"name": ["x" * 90, "y"], "params": ["short", "scale 0.3, " * 9], "n": [1.0, 2.0]})
    table = Table(frame, (Column("name", "N"), Column("params", "P"), Column("n", "n", digits=1)))
    assert re.findall(r'<(t[dh])(?: scope="row")?( class="\w+")?>', table.html().partition("<tbody>")[2]) == [
        ("th", ""),
        ("td", ""),
        ("td", ' class="n"'),
        ("th", ""),
        ("td", ' class="wrap"'),
        ("td", ' class="n"'),
    ]
