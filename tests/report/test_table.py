import pandas as pd

from remerge.report.table import Column, Table, number


def test_special_letters_are_escaped() -> None:
    frame = pd.DataFrame({"name": ["a_b & 50% <|>"], "x": [-0.001], "y": [float("nan")]})
    columns = (Column("name", "N_1"), Column("x", "x", digits=1), Column("y", "y", digits=1))
    table = Table(frame, columns)
    latex = table.latex("odd", "Odd_title", "100% ± λ")
    assert r"a\_b \& 50\% <|> & 0.0 & -- \\" in latex
    assert r"\caption{Odd\_title. 100\% $\pm$ $\lambda$}" in latex
    assert r"a_b & 50% <\|>" in table.markdown("", "")
    assert "a_b &amp; 50% &lt;|&gt;" in table.html()


def test_numbers() -> None:
    assert [number(x, 1) for x in (-1.25, -0.01, 2.0, float("nan"))] == ["−1.2", "0.0", "2.0", "–"]


def test_a_table_without_rows_is_whole() -> None:
    table = Table(pd.DataFrame({"name": []}), (Column("name", "Name"),))
    assert table.latex("odd", "", "").count(r"\midrule") == 1 and table.html() and table.markdown("", "")
