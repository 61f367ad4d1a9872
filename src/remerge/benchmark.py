"""A finished run in Python: its records as frames, its tables and figures, its merged models."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from remerge import exhibits
from remerge.config import Config
from remerge.errors import UserError
from remerge.exhibits import Exhibit
from remerge.files import read_bytes
from remerge.made import checked
from remerge.records import Merge, Score
from remerge.report.figure import Figure, look
from remerge.report.run import Run, in_place
from remerge.report.table import Table

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler
    from transformers import PreTrainedModel


class Benchmark:
    """The results of one run, read when they are needed.

    Frames have plain columns. Scores and shares are from 0 to 1, ANP is in percent, times are in seconds,
    memory is in bytes.
    """

    def __init__(self, run: Run) -> None:
        """Take a run; see `open`."""
        self.run = run

    @classmethod
    def open(cls, results: str | Path) -> "Benchmark":
        """The run in a folder ``results/<benchmark>``, wherever that is.

        Raises:
            UserError: it contains no run.
        """
        found = cls(Run(Path(results)))
        _ = found.config
        return found

    def __repr__(self) -> str:
        return f"<Benchmark {self.name}: {len(self.tasks)} tasks, {len(self.run.variants)} variants>"

    @property
    def config(self) -> Config:
        """The configuration, with every default written out."""
        return self.run.config

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.run.benchmark

    @property
    def tasks(self) -> list[str]:
        """The tasks, in the configuration's order."""
        return self.run.tasks

    @property
    def merges(self) -> pd.DataFrame:
        """One row per merge, of all plans.

        Columns: variant, label (for display), method, plan, case (``cola+mnli``), tasks (a tuple, sorted),
        size, seed, anp and anp_restricted (NaN where they are not defined), merge, fit and evaluate
        (seconds), memory (the peak while it was made), params (a dict of those actually used).

        Raises:
            UserError: a record is missing or broken.
        """
        labels = {variant.name: variant.label for variant in self.run.variants}
        return pd.DataFrame(
            {
                "variant": merge.variant,
                "label": labels[merge.variant],
                "method": merge.method,
                "plan": plan,
                "case": merge.case,
                "tasks": tuple(merge.tasks),
                "size": merge.size,
                "seed": merge.seed,
                "anp": float("nan") if merge.anp is None else merge.anp,
                "anp_restricted": float("nan") if merge.anp_restricted is None else merge.anp_restricted,
                **merge.seconds.model_dump(),
                "memory": merge.memory,
                "params": merge.params,
            }
            for plan, merge in self._every_merge()
        )

    @property
    def scores(self) -> pd.DataFrame:
        """One row per score on a test split, of merges and of unmerged models.

        Columns: model (``base``, ``multitask``, a task's expert, or ``merge``), variant, case, seed (None for
        unmerged models), task, metric, value, restricted, joint, n (examples), normalised (as a share of the
        task's own expert's score).

        Raises:
            UserError: a record is missing or broken.
        """
        rows = [
            {"model": model, "variant": None, "case": None, "seed": None, **self._score(task, score)}
            for model in [*self.tasks, *self.run.references]
            for task, score in self.run.scores(model).items()
        ]
        rows += [
            {
                "model": "merge",
                "variant": merge.variant,
                "case": merge.case,
                "seed": merge.seed,
                **self._score(task, score),
            }
            for _, merge in self._every_merge()
            for task, score in {**merge.scores, **merge.others}.items()
        ]
        return pd.DataFrame(rows)

    @property
    def coefficients(self) -> pd.DataFrame:
        """One row per learned coefficient: variant, case, seed, expert, layer (empty for all layers), value.

        Raises:
            UserError: a record is missing or broken.
        """
        rows = [
            {
                "variant": merge.variant,
                "case": merge.case,
                "seed": merge.seed,
                "expert": expert,
                "layer": layer,
                "value": value,
            }
            for _, merge in self._every_merge()
            for expert, known in merge.coefficients.items()
            for layer, value in (known if isinstance(known, dict) else {None: known}).items()
        ]
        return pd.DataFrame(rows, columns=["variant", "case", "seed", "expert", "layer", "value"])

    def outcomes(self, task: str, case: str) -> pd.DataFrame:
        """The score of each model on each example of a task's test split, ``[n, models]``, from 0 to 1.

        By a metric that judges all answers together, these are its pseudo-values, whose mean is the score.

        Args:
            task: the task of the examples; their texts are the rows of `examples`.
            case: a subset with this task, as in the records: ``cola+mnli``.

        Returns:
            One row per example, in the order of the split; a column ``expert``, the task's own, and one for
            each variant that makes this merge, with the first of several seeds.

        Raises:
            UserError: an unknown task or subset, or records without outcomes of single examples.
        """
        self.config.task(task)
        tasks = self.config.subset(case)
        if task not in tasks:
            raise UserError(f"{task} is not merged in {case}: name one of its tasks")
        columns = {"expert": self.run.unmerged_outcomes(task, task)}
        for variant in self.run.variants:
            for merge in self.run.merges(variant.name, len(tasks)):
                if merge.case == case:
                    columns.setdefault(variant.name, self.run.outcomes(variant.name, merge)[task])
        if len(columns) == 1:
            raise UserError(f"{case} is not among the merges of this run: name one that is")
        return pd.DataFrame(columns)

    def examples(self, task: str) -> pd.DataFrame:
        """The examples of a task's test split, ``[n, columns of its dataset]``, in the order of `outcomes`.

        Raises:
            UserError: an unknown task, or the split is missing, or is not the one that was made here.
        """
        self.config.task(task)
        file = self.run.results / "data" / task / "test.parquet"
        return pd.read_parquet(BytesIO(read_bytes(checked(self.run.results, file, {}))))

    @property
    def exhibits(self) -> pd.DataFrame:
        """One row per table or figure: name, kind, title, source (the paper's own number, if any)."""
        return pd.DataFrame(
            {"name": e.name, "kind": e.kind, "title": e.title, "source": e.source}
            for e in exhibits.of(self.config).values()
        )

    def exhibit(self, name: str) -> "Figure | Styler":
        """A matplotlib figure, or a styled table as in the report; `frame` has a table's plain numbers.

        Raises:
            UserError: the benchmark has no such exhibit, or a record is missing.
        """
        exhibit, made = self._built(name)
        if isinstance(made, Figure):
            return made
        title, caption = exhibit.text({**self.run.facts, **made.facts})
        return made.styled(f"{title}. {caption}")

    def frame(self, name: str) -> pd.DataFrame:
        """Every number of a table, including the published ones, with the column names of its CSV file.

        Raises:
            UserError: the benchmark has no such table, or a record is missing.
        """
        _, made = self._built(name)
        if isinstance(made, Figure):
            raise UserError(f"{name} is a figure and has no frame: use exhibit")
        return made.frame.copy()

    def model(self, variant: str, case: str) -> "PreTrainedModel":
        """A merge of a subset as a model in memory, made again from the record as it was scored.

        Args:
            variant: the variant that merges, a name in `merges`.
            case: the experts, ``cola+mnli``, sorted.

        Returns:
            A model of the base's class, on the configuration's device, in evaluation mode. If each task
            has a head, the heads are side by side in place of one: `remerge.families.heads.route` sets the
            task of an input.

        Raises:
            UserError: an unknown variant or subset, files of base or experts that no longer exist, or a
                record that does not follow from today's code, settings, models and inputs.
        """
        # Imported here: frames and exhibits need no torch.
        from remerge.stages._again import again

        with in_place(self.run.results) as run:
            made = again(run.config, variant, case)
            made.write()
        return cast("PreTrainedModel", made.bench.model)

    def _built(self, name: str) -> tuple[Exhibit, Table | Figure]:
        mine = exhibits.of(self.config)
        if name not in mine:
            raise UserError(f"unknown exhibit {name!r} of {self.name}, known: {', '.join(mine)}")
        with look():
            return mine[name], mine[name].build(self.run)

    def _every_merge(self) -> Iterator[tuple[str, Merge]]:
        """All merges, each with its plan."""
        for variant in self.config.merge.variants:
            for group, plan in self.config.groups(variant).items():
                for merge in self.run.merges(variant.name, group):
                    yield plan, merge

    def _score(self, task: str, score: Score) -> dict[str, Any]:
        own = self.run.own[task].value
        return {
            "task": task,
            "metric": score.metric,
            "value": score.value,
            "restricted": score.restricted,
            "joint": score.joint,
            "n": score.n,
            "normalised": score.value / own if own else float("nan"),
        }
