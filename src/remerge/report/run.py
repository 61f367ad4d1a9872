"""One run as tables and figures read it: records as pandas frames.

In frames of scores, a row is a model; in frames of merges, a row is a merge, and the unmerged base and the
multitask model appear as if they had been merged on the very same subsets.
"""

from collections.abc import Iterator
from contextlib import chdir, contextmanager
from functools import cached_property
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import pandas as pd

from remerge import records
from remerge.errors import UserError
from remerge.report.labels import every
from remerge.report.recorded import Recorded

Kind = Literal["anp", "restricted"]


class Run(Recorded):
    """The records of one benchmark, also as frames."""

    @property
    def facts(self) -> dict[str, Any]:
        """The fields that a caption of any benchmark may have."""
        merges = [len(self.config.subsets(size)) for size in self.sizes]
        return {
            "benchmark": self.benchmark,
            "base": Path(self.config.base.source).name,
            "tasks": len(self.tasks),
            "smallest": self.sizes[0],
            "largest": self.sizes[-1],
            "all_smallest": every(merges[0], "merge"),
            "all": every(sum(merges), "merge"),
            "n_by_size": ", ".join(map(str, merges)),
        }

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """The strict score of every expert, the base and multitask (rows) on every task."""
        models = [*self.tasks, *self.references]
        rows = {model: {t: self.scores(model)[t].value for t in self.tasks} for model in models}
        return pd.DataFrame.from_dict(rows, orient="index").astype(float)

    def divergence(self, kind: Literal["kl", "js"]) -> pd.DataFrame:
        """D(expert of the column's task ‖ expert of the row) on the column's task."""
        rows = {model: self.divergences(model) for model in self.tasks}
        values = {model: {t: getattr(row[t], kind) for t in self.tasks} for model, row in rows.items()}
        return pd.DataFrame.from_dict(values, orient="index").astype(float)

    def merge_scores(self, size: int) -> dict[str, dict[str, list[float]]]:
        """For every variant and task, its scores on the task in merges of ``size`` experts with it."""
        found: dict[str, dict[str, list[float]]] = {}
        for variant in self.variants:
            scores = found[variant.name] = {task: [] for task in self.tasks}
            for merge in self.merges(variant.name, size):
                for task, score in merge.scores.items():
                    scores[task].append(score.value)
        return found

    @cached_property
    def merged(self) -> pd.DataFrame:
        """One row per merge: variant, size, subset, seed, anp, restricted, seconds merge, fit, evaluate."""
        rows = [
            {
                "variant": variant.name,
                "size": size,
                "subset": tuple(sorted(merge.tasks)),
                "seed": merge.seed,
                "anp": merge.anp,
                "restricted": float("nan" if merge.anp_restricted is None else merge.anp_restricted),
                **merge.seconds.model_dump(),
            }
            for variant in self.variants
            for size in self.sizes
            for merge in self.merges(variant.name, size)
        ]
        return pd.DataFrame(rows)

    @cached_property
    def anp(self) -> pd.DataFrame:
        """One row per subset: variant, size, subset, anp, restricted; means over seeds if there are several.

        ``spread`` is the standard deviation of anp over seeds. Unmerged models are included (Eq. 5).
        """
        unmerged = {model: self.scores(model) for model in self.references}
        rows = [
            {
                "variant": model,
                "size": size,
                "subset": subset,
                "anp": records.anp(records.normalised(some, self.own)),
                "restricted": records.anp(records.normalised_restricted(some, self.own)),
            }
            for model, scores in unmerged.items()
            for size in self.sizes
            for subset in self.config.subsets(size)
            if (some := {task: scores[task] for task in subset})
        ]
        seeds = self.merged.groupby(["variant", "size", "subset"], sort=False)
        of_seeds = seeds[["anp", "restricted"]].mean().assign(spread=seeds["anp"].std()).reset_index()
        return pd.concat([pd.DataFrame(rows), of_seeds], ignore_index=True)

    def anp_of(self, variant: str, size: int, kind: Kind = "anp") -> list[float]:
        """The ANP of every merge of one size by one variant, `base` or `multitask`."""
        frame = self.anp
        rows = (frame["variant"] == variant) & (frame["size"] == size)
        return [float(value) for value in frame.loc[rows, kind]]

    def mean_anp(self, variant: str, size: int, kind: Kind = "anp") -> float:
        """Its mean over the merges of one size; NaN if there are none."""
        found = self.anp_of(variant, size, kind)
        return fmean(found) if found else nan


@contextmanager
def in_place(results: Path) -> Iterator[Run]:
    """A run, while this process is in the folder above its results/: recorded paths are relative to that.

    Raises:
        UserError: it is not the folder of a run, or not where its configuration says.
    """
    if not (results / "config.yaml").is_file():
        raise UserError(f"{results}: not the folder of a run (no config.yaml): name results/<benchmark>")
    # The results may be a link to another disk, or be reached by a link.
    for folder in (results.absolute(), results.resolve()):
        with chdir(folder.parent.parent):
            run = Run(Path(folder.parent.name, folder.name))
            if run.results == run.config.folder:
                yield run
                return
    raise UserError(f"{results} is not {run.config.folder}: name the folder of a run")
