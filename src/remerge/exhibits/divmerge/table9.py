"""Settings.

The settings that the paper gives for its {benchmark_of_paper} benchmark, and those used here, taken from the
configuration and from the records of merges. The paper's settings are from Table 9 (where a batch is one
input of each task), Sections 2 and 4 and Appendix D.2; numbers of examples follow from Section 5.4, where 25
of them are 0.4% and 5%. A dash: not given. Lost: the paper has a column or a formula (Appendix B.1) for it,
which is missing from the text that we have.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, frame
from remerge.report.labels import printed
from remerge.report.run import Run
from remerge.report.table import MISSING, Column, Table

READS = ("merges",)
LOST = "lost"
TAKEN = {
    "epochs": "epochs",
    "learning_rate": "learning rate",
    "initial": "initial coefficient",
    "inputs": "inputs of a task",
}
Setting = tuple[str, str, str]
"""The kind of setting, its name, and its value here."""


def build(run: Run) -> Table:
    """One row per setting."""
    kind = "classification" if _classifies(run.config) else "generation"
    paper = Published(__file__, "divmerge-glue" if kind == "classification" else "divmerge-generation")
    found: dict[tuple[str, str], dict[str, None]] = {}
    for of, setting, value in [*_of_all(run.config), *_of_methods(run)]:
        found.setdefault((of, setting), {})[value] = None
    rows: list[Row] = []
    for (of, setting), values in found.items():
        row: Row = {"of": of, "setting": setting, "ours": ", ".join(values)}
        theirs = paper.text(of, setting)
        row |= {"paper": theirs or MISSING, "remark": _remark(row["ours"], theirs)}
        rows.append(row)
    heads = {"of": "Of", "setting": "Setting", "paper": "Paper", "ours": "Ours", "remark": "Remark"}
    columns = tuple(Column(key, head) for key, head in heads.items())
    rules = frozenset(k for k in range(1, len(rows)) if rows[k]["of"] != rows[k - 1]["of"])
    return Table(frame(rows, list(columns)), columns, rules=rules, facts={"benchmark_of_paper": kind})


def _of_all(config: Config) -> Iterator[Setting]:
    """The settings that all methods share."""
    finetune = config.finetune
    yield "Base", "model", config.base.source.rsplit("/", 1)[-1]
    given = [task.expert is not None for task in config.tasks.values()]
    trained = "all" if finetune.lora is None else f"adapters of rank {finetune.lora.rank}"
    yield "Experts", "trained weights", "existing checkpoints" if all(given) else trained
    if not all(given):
        yield (
            "Experts",
            "training examples of a task",
            _distinct(t.sizes.train for t in config.tasks.values()),
        )
        yield "Experts", "steps", f"{finetune.steps}, batches of {finetune.batch_size}"
        yield "Experts", "learning rate", f"{finetune.learning_rate:g}, {finetune.scheduler}"
    yield "Score", "metric", _distinct(task.metric for task in config.tasks.values())
    if any(map(config.is_learned, config.merge.variants)):
        sizes = [min(t.sizes.validation, config.learning.references) for t in config.tasks.values()]
        yield "Learned methods", "validation examples of a task", _distinct(sizes)
        yield "Learned methods", "optimiser", "Adam"


def _of_methods(run: Run) -> Iterator[Setting]:
    """The merges of the paper's methods."""
    for variant in run.variants:
        name = printed(variant.name, variant.params)
        params = [merge.params for size in run.sizes for merge in run.merges(variant.name, size)]
        if {note.split(" ")[0] for note in name.notes} - {*TAKEN, "answer"} or not params:
            continue
        if run.config.is_learned(run.config.variant(variant.name)):
            of = f"{name.method} ({name.level})"
            if run.config.base.speaks:
                first = name.method == "AdaMerging"
                how = [f"{used.get('answer', 'mean')} over its tokens" for used in params]
                yield of, "loss of an answer", "of its first token" if first else _distinct(how)
            yield of, "inputs of a task in a step", str(run.config.learning.batch_size)
            for key, setting in TAKEN.items():
                yield from ((of, setting, _distinct([used[key]])) for used in params)
            yield of, "schedule", "constant"
        else:
            for key in ("density", "scale", "weights"):
                if key in params[0]:
                    value = params[0][key]
                    yield name.method, key, "1/T" if value is None else _distinct([value])


def _remark(ours: str, paper: str) -> str:
    if not paper or LOST in paper:
        return "our choice"
    return "" if ours.casefold() == paper.casefold() else "differs"


def _distinct(values: Iterable[Any]) -> str:
    """The values, each once."""
    return ", ".join(dict.fromkeys(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values))


def _classifies(config: Config) -> bool:
    return all(task.classifies for task in config.tasks.values())
