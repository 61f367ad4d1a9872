"""Several benchmarks side by side, on one offline page."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from remerge import exhibits
from remerge.errors import UserError
from remerge.exhibits import Exhibit
from remerge.files import write_text
from remerge.report.make import printed
from remerge.report.page import FILES, data_uri, render
from remerge.report.run import Run


def compare(results: list[Path], out: Path) -> None:
    """Write the page of the exhibits that span benchmarks, from the records of runs.

    Raises:
        UserError: a record is missing, or two runs belong to the same benchmark.
    """
    runs = [Run(folder) for folder in results]
    names = [run.benchmark for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two runs have the name {name}, and each is a column: rename one")
    found = exhibits.of([run.config for run in runs])
    values = {
        "benchmarks": names,
        "folders": [str(run.results) for run in runs],
        "out": str(out),
        "exhibits": [_exhibit(exhibit, runs) for exhibit in found.values()],
    }
    write_text(out, render("compare.html", values))


def _exhibit(exhibit: Exhibit, runs: list[Run]) -> dict[str, Any]:
    files = printed(exhibit, runs)
    return {
        "name": exhibit.name,
        "short": exhibit.short,
        "piece": Markup(files["html"].decode()),  # escaped when it was printed
        "files": {suffix: data_uri(files[suffix]) for suffix in FILES[exhibit.kind]},
    }
