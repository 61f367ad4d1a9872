"""Exhibits are found by their place, say what they read, and are read without being imported."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remerge import config as configuration
from remerge import exhibits, sources
from remerge.errors import UserError
from remerge.exhibits._listing import listing
from remerge.report.run import Run

ROOT = Path(__file__).parents[2]
PLACES = {
    "base": ["base.json"],
    "experts": ["experts"],
    "scores": ["scores"],
    "references": ["references"],
    "divergences": ["divergences"],
    "weights": ["weights.json"],
    "alignment": ["alignment.json"],
    "merges": ["merges"],
    "selection": ["selection"],
}
WEIGHTS = "drm_figure3 drm_figure5"
DRM = f"{WEIGHTS} drm_figure6 drm_figure7 drm_table3 drm_table4"
ABLATIONS = "drm_table7 drm_table8"
SLIDES = "slides_depth slides_negation slides_table"
TABLES = "divmerge_table2 divmerge_table3 divmerge_table4 divmerge_table5"
MORE = "divmerge_table8 divmerge_table9"


DEMO = ("cola", "sst2", "mnli", "mrpc")


def figures(*numbers: int) -> str:
    return " ".join(f"divmerge_figure{number}" for number in numbers)


MINE = '''"""Mine.

Of {tasks} tasks, {more}.
"""

from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores",)


def build(run: Run) -> Table:
    """Nothing."""
    raise NotImplementedError
'''


@pytest.mark.parametrize(
    ("variant", "drawn"),
    [
        ("average", False),
        ({"ties": {"density": 0.1}}, False),
        ({"task_arithmetic": {"scale": 0.5}}, True),
        ({"task_arithmetic": {"scale": {"tune": [0.5, 1.0]}}}, True),
        ({"task_arithmetic": {"scale": dict.fromkeys(DEMO, 0.5)}}, False),
        ({"task_arithmetic": {"scale": {task: {"tune": [0.5, 1.0]} for task in DEMO}}}, False),
    ],
)
def test_forgetting_is_drawn_where_there_is_one_scale_for_all_experts(variant: Any, drawn: bool) -> None:
    whole = configuration.load(ROOT / "config/demo.yaml").model_dump(mode="json")
    whole["merge"]["variants"] = [variant]
    for paper, name in (("drm", "negation"), ("slides", "slides_negation")):
        raw = whole | {"paper": paper, "plans": {"negation": {}}}
        assert (name in exhibits.of(configuration.validate(raw, ROOT / "config/demo.yaml"))) == drawn


def test_scales_for_each_expert_are_on_no_curve() -> None:
    whole = configuration.load(ROOT / "config/demo.yaml").model_dump(mode="json")
    by_name = {task: {"tune": [0.8, 1.0, 1.2]} for task in DEMO}
    for scales in (by_name, {"tune": [[scale] * 4 for scale in (0.8, 1.0, 1.2)]}):
        ties = {"ties": {"density": {"tune": [0.2, 0.4]}, "scale": scales}}
        added = [{"task_arithmetic": {"scale": dict.fromkeys(DEMO, scale)}} for scale in (0.5, 1.0)]
        whole["merge"] = {"variants": [ties, *added]}
        for paper, name in (("drm", "drm_figure7"), ("slides", "slides_addition")):
            config = configuration.validate(whole | {"paper": paper}, ROOT / "config/demo.yaml")
            assert name not in exhibits.of(config)


@pytest.mark.parametrize(
    ("benchmark", "names"),
    [
        ("demo", f"{figures(2, 3, 5, 6, 7, 8)} {TABLES} divmerge_table6 {MORE}"),
        ("divmerge-glue", f"{figures(2, 3, 5, 6, 7, 8)} {TABLES} divmerge_table6 {MORE}"),
        ("divmerge-glue-inputs", f"{figures(4, 5, 6)} {TABLES} {MORE}"),
        ("demo-inputs", f"{figures(4, 5, 6)} {TABLES} {MORE}"),
        ("demo-t5", f"{figures(2, 5, 6, 7, 9)} {TABLES} divmerge_table7 {MORE}"),
        ("divmerge-generation", f"{figures(2, 5, 6, 7, 9)} {TABLES} divmerge_table7 {MORE}"),
        ("drm-vit-b32", f"drm_figure2 {DRM} drm_table5 {ABLATIONS} drm_table10"),
        ("drm-vit-l14", f"{DRM} drm_table5 {ABLATIONS} drm_table11"),
        ("drm-t5-base", f"drm_figure2 {DRM} drm_table6 {ABLATIONS} drm_table12"),
        ("drm-t5-large", f"{DRM} drm_table6 {ABLATIONS} drm_table13"),
        ("drm-deberta", f"{DRM} drm_table6 {ABLATIONS} drm_table14"),
        ("drm-llama-lora", f"{WEIGHTS} drm_figure7 drm_table3 drm_table4 drm_table6 drm_table15"),
        ("demo-vision", f"drm_figure2 {WEIGHTS} drm_figure7 drm_table4 drm_table5 drm_table10"),
        ("demo-encoder", f"drm_figure2 {DRM} drm_table6 {ABLATIONS} drm_table14"),
        ("demo-lora", f"drm_figure2 {WEIGHTS} drm_figure7 drm_table3 drm_table4 drm_table6 drm_table15"),
        ("demo-slides", f"slides_addition slides_alignment slides_analogy {SLIDES}"),
        ("slides-vit-b16", f"slides_addition slides_alignment {SLIDES}"),
        ("flan-t5-glue", "fusionbench_experts fusionbench_tasks"),
        ("clip-vit-l14", "fusionbench_experts fusionbench_tasks"),
        ("own", ""),
    ],
)
def test_a_benchmark_makes_the_exhibits_of_its_own_paper_under_their_numbers(
    benchmark: str, names: str
) -> None:
    config = configuration.load(ROOT / f"config/{benchmark}.yaml")
    known = exhibits.of(config)
    mine = [name for name, exhibit in known.items() if exhibit.source]
    assert sorted(mine) == sorted(names.split())
    # In the paper's order: figures and tables together, by their numbers.
    numbers = [int(found.group()) for name in mine if (found := re.search(r"\d+$", name))]
    assert numbers == sorted(numbers)
    assert "seconds" in known and not {*exhibits.of([config])} & {*known}


def test_the_list_in_the_documents_is_of_today() -> None:
    configs = [configuration.load(file) for file in sorted((ROOT / "config").glob("*.yaml"))]
    titles = [line.split(" | ")[1] for line in listing(configs[:1]).splitlines() if line.startswith("| [")]
    assert "Merges of n experts" in titles and not any("{" in title for title in titles)
    assert "compare` of  |" not in listing(configs[:1])
    assert (ROOT / "docs/exhibits.md").read_text() == listing(configs) + "\n", (
        "run: remerge exhibits config/*.yaml > docs/exhibits.md"
    )


def test_a_benchmark_of_no_paper_has_the_plain_tables() -> None:
    config = configuration.load(ROOT / "config/own.yaml")
    plain = "anp best experts pairs seconds selection sizes tasks comparisons differences ranks validation"
    assert {*exhibits.of(config)} == {*plain.split(), "reached"}


def test_what_is_said_of_one() -> None:
    exhibit = exhibits.known()["divmerge_table5"]
    assert (exhibit.kind, exhibit.reads, exhibit.short) == ("table", ("scores",), "Table 5")
    assert exhibit.source == "DivMerge, Table 5"
    files = [str(file.relative_to(sources.PACKAGE)) for file in exhibit.files]
    assert files[0] == "exhibits/divmerge/table5.py"
    assert {f"exhibits/divmerge/table{n}.csv" for n in (5, 6)} < {*files}
    assert {"exhibits/general/experts.py", "report/table.py", "records/__init__.py"} < {*files}
    assert not any(file.startswith(("methods", "stages", "exhibits/drm")) for file in files)
    assert exhibit.text({"metrics": "accuracy", "n_test": 7, "strict": ""})[0] == "Every expert on every task"
    assert exhibits.known()["drm_table1"].source == "DRM, Table 1"
    assert list(exhibits.known()).index("drm_table10") + 5 == list(exhibits.known()).index("drm_table15")


@pytest.mark.parametrize("which", ["world", "glue", "drm", "own"])
def test_no_more_is_read_than_is_said(request: pytest.FixtureRequest, tmp_path: Path, which: str) -> None:
    world = request.getfixturevalue(which)
    for name, exhibit in exhibits.of(Run(world).config).items():
        results = tmp_path / name
        results.mkdir()
        shutil.copy(world / "config.yaml", results)
        for place in (world / place for what in exhibit.reads for place in PLACES[what]):
            (results / place.name).symlink_to(place)
        exhibit.build(Run(results))


def test_planning_imports_neither_pandas_nor_matplotlib_nor_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from remerge import config, exhibits;"
        "found = exhibits.of(config.load(Path('config/demo.yaml')));"
        "[(e.kind, e.reads, e.files) for e in found.values()];"
        "sys.exit(any(name in sys.modules for name in ('pandas', 'matplotlib', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_file_that_is_no_exhibit_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "general/mine.py"
    file.parent.mkdir()
    file.write_text(MINE)
    exhibit = exhibits.Exhibit(file)
    assert (exhibit.name, exhibit.kind, exhibit.source) == ("mine", "table", "")
    assert exhibit.text({"tasks": 3, "more": "x"}) == ("Mine", "Of 3 tasks, x.")
    with pytest.raises(UserError, match=r"mine\.py: the docstring has an unknown field \{more\}"):
        exhibit.text({"tasks": 3})
    for old, new, words in (
        ("def build", "def build build", r"mine\.py:\d+: .*: correct the line"),
        ("def build", "\0", r"mine\.py:1: .*null bytes: correct"),
        ("READS", "reads", "READS is missing"),
        ("-> Table", "-> str", "build returns str"),
        ("def build", "def make", "no function build"),
    ):
        file.write_text(MINE.replace(old, new))
        with pytest.raises(UserError, match=words):
            _ = (exhibits.Exhibit(file).reads, exhibits.Exhibit(file).kind)


def test_the_exhibit_of_the_readme_is_one(world: Path, tmp_path: Path) -> None:
    code = re.search(
        r"```python\n(\"\"\"Every expert's best.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert code
    file = tmp_path / "general/best.py"
    file.parent.mkdir()
    file.write_text(code.group(1))
    exhibit, run = exhibits.Exhibit(file), Run(world)
    assert (exhibit.kind, exhibit.reads) == ("table", ("scores",))
    assert exhibit.text(run.facts)[1] == "The task on which each of the 4 experts scores highest."
    inside: dict[str, Any] = {}
    exec(compile(code.group(1), file, "exec"), inside)
    assert inside["build"](run).csv() == "expert,task\ncola,cola\nsst2,sst2\nmrpc,mrpc\nrte,rte\n"
