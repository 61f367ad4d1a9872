"""Analogy: τ_C + τ_B − τ_A, judged on a task D that none of them was trained on (slides, Task arithmetic)."""

from collections.abc import Sequence

from pydantic import Field

from remerge.plans import Case, Plan, Scores, Unmerged, must_be_tasks


class Analogy(Plan):
    """A is to B as C is to D."""

    a: str = Field(description="the task whose vector is subtracted")
    b: str = Field(description="A is to B …")
    c: str = Field(description="… as C is to D")
    d: str = Field(description="the task that judges")

    def cases(self, tasks: Sequence[str], seed: int) -> dict[str, list[Case]]:
        """The one merge."""
        must_be_tasks([self.a, self.b, self.c, self.d], tasks)
        if len({self.a, self.b, self.c, self.d}) < 4:
            raise ValueError("a, b, c and d must be four different tasks")
        name = f"{self.c}+{self.b}-{self.a}"
        return {"analogy": [Case(name, {self.c: 1, self.b: 1, self.a: -1}, (self.d,))]}

    def merit(self, case: Case, scores: Scores, unmerged: Unmerged) -> float:
        """The score on D, from 0 to 1."""
        return scores[self.d]
