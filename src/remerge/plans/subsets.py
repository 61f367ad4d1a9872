"""Every subset of the tasks, or a sample of each size: the papers' plan."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from random import Random
from statistics import fmean
from typing import Literal

from pydantic import Field

from remerge.plans import Case, Number, Plan, Scores, Unmerged, must_be_tasks, must_differ

MOST = 100_000
"""The largest number of subsets of a size that are listed, to use all or to draw some."""


class Subsets(Plan):
    """Subsets of the tasks, merged by size."""

    sizes: list[Number] | None = Field(
        None,
        min_length=1,
        description="sizes of the subsets; default: from 2 to the number of tasks",
    )
    at_most: Number | None = Field(
        None, description="number of subsets per size, drawn by the seed (DRM, Figure 2: 10); default: all"
    )
    only: list[str] = Field([], description="only these subsets, as task+task; leave out sizes and at_most")
    judged: Literal["merged", "all"] | list[str] = Field(
        "merged",
        description="the tasks that score a merge: the merged ones, all, or the merged ones and these",
    )
    tune_on: list[str] = Field(
        [],
        description="the merges on which parameters are tuned, as task+task, each of those that a method can "
        "make; default: the largest one that it makes, the last if there are several",
    )

    def cases(self, tasks: Sequence[str], seed: int) -> dict[str, list[Case]]:
        """The subsets of each size."""
        self._named("tune_on", self.tune_on, tasks)
        if self.only:
            if self.sizes or self.at_most:
                raise ValueError("only names the subsets: leave out sizes and at_most")
            named = self._named("only", self.only, tasks)
            sizes = sorted({len(subset) for subset in named})
            drawn = {size: [subset for subset in named if len(subset) == size] for size in sizes}
        else:
            sizes = sorted({*(self.sizes or range(2, len(tasks) + 1))})
            drawn = {size: self._drawn(sorted(tasks), size, seed) for size in sizes}
        return {str(size): [self._case(subset, tasks) for subset in drawn[size]] for size in sizes}

    def tuning(self, cases: Mapping[str, list[Case]]) -> list[Case]:
        """The named merges, or the largest."""
        if not self.tune_on:
            return list(cases.values())[-1][-1:]
        named = [tuple(sorted(written.split("+"))) for written in self.tune_on]
        return [Case("+".join(subset), dict.fromkeys(subset, 1), subset) for subset in named]

    def merit(self, case: Case, scores: Scores, unmerged: Unmerged) -> float:
        """The ANP: 100 times the mean share of the experts' own scores."""
        return 100 * fmean(scores[task] / unmerged.own(task) for task in case.tasks)

    def _drawn(self, tasks: list[str], size: int, seed: int) -> list[tuple[str, ...]]:
        if size > len(tasks):
            raise ValueError(f"sizes: {size} is more than the {len(tasks)} tasks: leave it out")
        if comb(len(tasks), size) > MOST:
            raise ValueError(f"sizes: more than {MOST:,} subsets of {size} tasks: name some in only")
        every = list(combinations(tasks, size))
        if self.at_most is None or len(every) <= self.at_most:
            return every
        return sorted(Random(f"{seed}/{size}").sample(every, self.at_most))

    @staticmethod
    def _named(key: str, written: Sequence[str], tasks: Sequence[str]) -> list[tuple[str, ...]]:
        """Subsets as they are written, each sorted.

        Raises:
            ValueError: one is not of tasks, or is named twice, or names a task twice.
        """
        named = []
        for subset in written:
            must_be_tasks(subset.split("+"), tasks)
            must_differ(f"{key}: {subset}", subset.split("+"))
            named.append(tuple(sorted(subset.split("+"))))
        must_differ(key, ["+".join(subset) for subset in named])
        return named

    def _case(self, subset: tuple[str, ...], tasks: Sequence[str]) -> Case:
        more = {"merged": [], "all": tasks}[self.judged] if isinstance(self.judged, str) else self.judged
        must_be_tasks(more, tasks)
        judged = (*subset, *(task for task in tasks if task in more and task not in subset))
        return Case("+".join(subset), dict.fromkeys(subset, 1), judged)
