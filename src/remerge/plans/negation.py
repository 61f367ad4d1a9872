"""Negation: subtract one task vector to forget its task and keep the controls (slides, Task arithmetic)."""

from collections.abc import Sequence

from pydantic import Field

from remerge.plans import Case, Plan, Scores, Unmerged, must_be_tasks, must_differ

KEPT = 0.95
"""The share of the base's score on every control that a setting must keep."""


class Negation(Plan):
    """Each task's vector subtracted on its own."""

    tasks: list[str] = Field([], description="the tasks to forget, one per merge; default: each task")
    controls: list[str] = Field([], description="the tasks to keep; default: all others")

    def cases(self, tasks: Sequence[str], seed: int) -> dict[str, list[Case]]:
        """One merge for each task to forget."""
        must_be_tasks([*self.tasks, *self.controls], tasks)
        must_differ("tasks", self.tasks)
        controls = list(dict.fromkeys(self.controls)) or tasks
        for target in self.tasks or tasks:
            if {*controls} == {target}:
                raise ValueError(f"controls: {target} is to be forgotten: name another task to keep")
        found = [
            Case(f"-{target}", {target: -1}, (target, *(c for c in controls if c != target)))
            for target in self.tasks or tasks
        ]
        return {"negation": found}

    def merit(self, case: Case, scores: Scores, unmerged: Unmerged) -> float:
        """Minus the task's score, if every control keeps 95% of the base's score; otherwise below −1.

        A control on which the base scores 0 has nothing to lose.
        """
        (target,) = case.tasks
        before = {control: unmerged.base(control) for control in case.judged if control != target}
        kept = min(scores[c] / base if base else 1.0 for c, base in before.items())
        return -scores[target] if kept >= KEPT else kept - 2
