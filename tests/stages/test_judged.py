"""Tasks whose answers are judged together, from data to scores."""

from types import SimpleNamespace

import numpy as np
import pytest
from choosing import likeliest, likelihood
from scipy.stats import pearsonr, spearmanr
from stages.test_choice import ASKED, NOUNS, ROWS, benchmark, mean_of, write
from stages.trained import full

from remerge.errors import UserError
from remerge.measures.score import Split, score
from remerge.outcomes import unpack, unpack_taken
from remerge.records import Scores
from remerge.stages import data, scores
from remerge.stages._workspace import Workspace

TWO = {
    **ASKED,
    "answers": ["{options[0]}", "{options[1]}"],
    "target": "second",
}
PAIRS = [
    {**row, "options": [f"the {NOUNS[k % 5]}", f"a {NOUNS[k % 4]}"][:: 1 - 2 * (k % 2)], "second": k // 3 % 2}
    for k, row in enumerate(ROWS)
]
TASKS = {
    "first": {**TWO, "metric": "matthews"},
    "second": {**TWO, "prompt": "{asked} . why ?", "metric": "f1"},
}


@pytest.mark.parametrize("existing", [full], indirect=True)
def test_choices_between_two_are_judged_together(existing, tokenizer):
    write(PAIRS)
    config = existing(TASKS, "average", finetune={"multitask": False}, evaluation={"batch_size": 7})
    for task in TASKS:
        data.run(config, task)
    scores.run(config)
    seen = set()
    for expert in TASKS:
        found, model = Scores.read(config.folder, model=expert).scores, mean_of([expert])
        for task, asked in config.tasks.items():
            rows = Workspace(config).rows(task, "test")
            said = []
            for row in rows:
                prompt = tokenizer(asked.prompt.format(**row)).input_ids
                sums = [likelihood(model, prompt, tokenizer(text).input_ids) for text in row["options"]]
                said.append(likeliest(sums))
            gold = np.array([int(row["second"]) for row in rows])
            right = np.array(said) == gold
            tp, fp, fn, tn = (
                int(np.sum((np.array(said) == a) & (gold == b))) for a in (1, 0) for b in (1, 0)
            )
            below = np.sqrt(float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
            matthews = (tp * tn - fp * fn) / below if below else 0
            expected = matthews if task == "first" else 2 * tp / max(1, 2 * tp + fp + fn)
            assert found[task].value == pytest.approx(expected)
            assert found[task].accuracy == pytest.approx(right.mean())
            assert unpack_taken(found[task].taken, 2, 20) == said
            assert unpack(found[task].outcomes, asked.metric, 20).mean() == pytest.approx(expected, abs=1e-6)
            seen.add(round(found[task].value, 6))
    assert len(seen) > 2


def test_numbers_in_free_answers_are_correlated_with_the_gold_ones():
    said, gold = ["3.8", "about 4", "none", "1.0", "5"], ["3.5", "4.0", "2.2", "1.2", "3.6"]
    processor = SimpleNamespace(batch_decode=lambda answers, skip_special_tokens: said)
    family = SimpleNamespace(greedy=lambda model, examples, longest: said, processor=processor)
    heard, right = [3.8, 4, 0, 1, 5], [3.5, 4, 2.2, 1.2, 3.6]
    for metric, theirs in (("pearson", pearsonr), ("spearman", spearmanr)):
        found = score(family, None, Split([None] * 5, gold, None, metric, None, ""), 2)
        assert found["value"] == pytest.approx(theirs(heard, right).statistic)
        assert found["metric"] == metric and found["n"] == 5
        assert unpack(found["outcomes"], metric, 5).mean() == pytest.approx(found["value"], abs=1e-6)


NUMBERS = {"answers": [], "labels": None, "target": "second"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"metric": "matthews"}, "metric: matthews is of two answers: use accuracy or choice for more"),
        ({"metric": "spearman"}, "metric: spearman compares numbers in free answers: leave answers out"),
        ({"metric": "f1", "answers": []}, "metric: f1 is one of answers: name them, or use another metric"),
    ],
)
def test_a_metric_that_does_not_fit_the_answers_is_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        benchmark(**asked)


@pytest.mark.parametrize(
    ("asked", "change", "said"),
    [
        ({**TWO, "metric": "f1"}, {"second": 1}, "all answers are the same, of which f1 is 0"),
        ({**NUMBERS, "metric": "pearson"}, {"second": 3}, "all answers are the same, of which pearson is 0"),
        ({**NUMBERS, "metric": "spearman", "target": "asked"}, {}, "an answer without a number"),
    ],
)
@pytest.mark.parametrize("existing", [full], indirect=True)
def test_gold_answers_that_leave_nothing_to_compare_are_refused(existing, asked, change, said):
    write([row | change for row in PAIRS])
    config = existing({"first": {**ASKED, **asked}, "second": {**TWO, "metric": "choice"}}, "average")
    with pytest.raises(UserError, match=said):
        data.run(config, "first")
