"""ROUGE F-measures by `rouge_score`, as a metric of `evaluate` that does not need the hub."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from rouge_score.rouge_scorer import RougeScorer

KINDS = ["rouge1", "rouge2", "rougeL"]


class Rouge(evaluate.Metric):  # type: ignore[misc]
    """The F-measures of each example, 0 to 1, without stemming (Lin, 2004)."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="Lin (2004). ROUGE: a package for automatic evaluation of summaries",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        scorer = RougeScorer(KINDS)
        scored = [scorer.score(gold, said) for said, gold in zip(predictions, references, strict=True)]
        return {kind: [one[kind].fmeasure for one in scored] for kind in KINDS}


def rouge(said: Sequence[str], gold: Sequence[str]) -> dict[str, list[float]]:
    """``rouge1``, ``rouge2`` and ``rougeL`` of each answer against the gold answer."""
    found: dict[str, list[float]] = Rouge(keep_in_memory=True).compute(predictions=said, references=gold)
    return found
