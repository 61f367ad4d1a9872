"""The exhibits as markdown, with the benchmarks that produce each and the count of published numbers."""

import csv
import re
from collections.abc import Sequence

from remerge import exhibits
from remerge.config import Config
from remerge.sources import COMPARE, EXHIBITS, papers

HEAD = """# Tables and figures

Every exhibit of the papers with its file (the published numbers are in the CSV beside it), the configurations
that produce it, and the number of published values that it shows beside ours. A benchmark writes them to
`results/<benchmark>/{tables,figures}/<exhibit>`. Made by `remerge exhibits config/*.yaml > docs/exhibits.md`.
"""

HEADER = "| exhibit | title | benchmarks | numbers beside ours |\n| --- | --- | --- | --- |"


def listing(configs: Sequence[Config]) -> str:
    """One table per paper with a row per exhibit, and what is left out; links are relative to ``docs/``."""
    parts = [HEAD]
    for paper in papers():
        title, left_out = exhibits.said_of(paper)
        parts.append(f"## {title}\n\n{left_out}\n\n{HEADER}")
        parts += [_row(exhibit, configs) for exhibit in exhibits.known().values() if exhibit.paper == paper]
        parts.append("")
    others = [exhibit for exhibit in exhibits.known().values() if not exhibit.paper]
    parts.append(f"## In none of the papers\n\n{HEADER}")
    parts += [_row(exhibit, configs) for exhibit in others]
    return "\n".join(parts)


def _row(exhibit: exhibits.Exhibit, configs: Sequence[Config]) -> str:
    applies = [
        config.benchmark
        for config in configs
        if exhibit.applies([config] if exhibit.folder == COMPARE else config)
    ]
    link = f"[`{exhibit.name}`](../src/remerge/exhibits/{exhibit.file.relative_to(EXHIBITS)})"
    where = "`remerge compare` of " if applies and exhibit.folder == COMPARE else ""
    many = "every benchmark" if len(applies) == len(configs) else ", ".join(applies)
    # A number that a run fills in is n here.
    title = re.sub(r"\{\w+\}", "n", exhibit.title)
    return f"| {link} | {title} | {where}{many} | {_beside(exhibit, applies)} |"


def _beside(exhibit: exhibits.Exhibit, benchmarks: Sequence[str]) -> str:
    """The count of published numbers: for the benchmarks that make the exhibit, and for all if different."""
    numbers = exhibit.file.with_suffix(".csv")
    if not numbers.exists():
        return ""
    with numbers.open(encoding="utf-8") as file:
        rows = [row["benchmark"] for row in csv.DictReader(file)]
    here = sum(benchmark in benchmarks for benchmark in rows)
    return str(here) if here == len(rows) else f"{here} of {len(rows)}"
