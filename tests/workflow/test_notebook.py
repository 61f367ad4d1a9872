"""The notebook's cells, in their order and in one namespace, on a run of seconds."""

import ast
import json
from pathlib import Path

import pytest
from projects import Project

NOTEBOOK = Path(__file__).parent.parent.parent / "docs/notebooks/tour.ipynb"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("project"))
    groups = [
        f"merges/{variant}/{size}.jsonl" for variant in ("average", "divmerge@level=task") for size in "23"
    ]
    done = made.run("--", *(f"results/seconds/{name}" for name in [*groups, "scores/cola.json"]))
    assert done.returncode == 0, done.stderr[-3000:]
    return made


def test_every_cell_runs_and_the_last_lines_are_values(project, monkeypatch):
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setenv("RESULTS", str(project.results))
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    scope: dict = {}
    shown = []
    for cell in cells:
        body = ast.parse("".join(cell["source"])).body
        last = body.pop()
        exec(compile(ast.Module(body, []), NOTEBOOK.name, "exec"), scope)
        assert isinstance(last, ast.Expr)
        shown.append(eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), scope))
    assert all(value is not None for value in shown)
    assert shown[-2] < 1e-6  # what is averaged in memory is the run's own average
    assert len(scope["outcomes"]) == len(scope["bench"].examples(scope["task"]))
