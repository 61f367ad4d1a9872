"""Several benchmarks side by side, on one offline page."""

import shlex
from pathlib import Path

from remerge import exhibits
from remerge.errors import UserError
from remerge.files import write_text
from remerge.report.make import printed
from remerge.report.page import embedded, render
from remerge.report.run import Run


def compare(results: list[Path], out: Path) -> None:
    """Write the page of the exhibits that span benchmarks, from the records of runs.

    Raises:
        UserError: a folder is no run's, a record is missing, or two runs belong to the same benchmark.
    """
    runs = [Run(folder) for folder in results]
    names = [run.benchmark for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two runs are of the benchmark {name}, and each is a column: name each run once, or run one "
                "again under another name (benchmark in its configuration)"
            )
    found = exhibits.of([run.config for run in runs])
    values = {
        "benchmarks": names,
        "command": shlex.join(["remerge", "compare", *map(str, results), "--out", str(out)]),
        "exhibits": [embedded(exhibit, printed(exhibit, runs)) for exhibit in found.values()],
    }
    write_text(out, render("compare.html", values))
