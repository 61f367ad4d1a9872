"""Tasks of choice among answers that differ by example, from local data to the records of merges."""

import json
from pathlib import Path

import pytest
from choosing import likeliest, likelihood
from counting import passes as foretold
from stages.trained import full
from transformers import AutoModelForCausalLM

from remerge import config as configuration
from remerge import passes
from remerge.batches import batches
from remerge.config import SPLITS, Config, Task
from remerge.errors import Stale, UserError
from remerge.needs import Needs
from remerge.outcomes import unpack
from remerge.records import Merge, Scores
from remerge.stages import batch, data, references, scores
from remerge.stages._workspace import Workspace
from remerge.tasks import answers_of
from remerge.templates import MissingError
from remerge.units import Extent
from remerge.work import Jobs

NOUNS = ["cat", "dog", "house", "garden", "teacher", "river"]
ROWS = [
    {
        "asked": f"the {NOUNS[k % 6]} sleeps near a {NOUNS[(k + k // 6) % 6]}",
        "options": [
            f"the {NOUNS[k % 5]}",
            f"a {NOUNS[k % 6]} in the {NOUNS[(k + 1) % 6]} sleeps",
            f"in a {NOUNS[k % 4]}",
        ],
        "right": k % 3,
    }
    for k in range(20)
]
ASKED = {
    "source": "./own",
    "prompt": "{asked} :",
    "answers": [f"{{options[{k}]}}" for k in range(3)],
    "target": "right",
    "metric": "choice",
    "sizes": dict.fromkeys(SPLITS, 20),
}
TASKS = {
    "first": ASKED,
    "second": {**ASKED, "prompt": "{asked} . why ?", "metric": "choice_by_length"},
}
GRID = {"inputs": 4, "epochs": 2, "learning_rate": {"tune": [0.01, 0.02]}}


def write(rows):
    Path("own").mkdir(exist_ok=True)
    for split in SPLITS:
        Path(f"own/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def outcomes(model, words, rows, asked):
    """The right choices of a model by a task's metric, each answer fed in alone."""
    right = []
    for row in rows:
        prompt = words(asked.prompt.format(**row)).input_ids
        sums = [
            likelihood(model, prompt, words(text).input_ids)
            / (len(text) if asked.metric == "choice_by_length" else 1)
            for text in row["options"]
        ]
        right.append(float(likeliest(sums) == int(row["right"])))
    return right


def mean_of(folders):
    """A model with the mean of the weights of others."""
    states = [AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in folders]
    model = AutoModelForCausalLM.from_pretrained("base").eval()
    model.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    return model


@pytest.mark.parametrize("existing", [full], indirect=True)
def test_models_are_judged_by_their_choices_in_the_passes_that_are_foretold(existing, tokenizer):
    write(ROWS)
    tuned = {"ties": {"density": {"tune": [0.3, 0.6]}}}
    variants = ["average", tuned, {"divmerge": {"level": "task", **GRID}}]
    some = {"finetune": {"multitask": False}, "evaluation": {"batch_size": 7, "watch": 3}}
    config = existing(TASKS, "average", merge={"variants": variants}, **some)
    for task in TASKS:
        data.run(config, task)
    jobs, before = Jobs(config), passes.made()
    scores.run(config)
    assert passes.made() - before == foretold(jobs.stage("scores")[0]) == 3 * 2 * 9
    for task in TASKS:
        references.run(config, task)
    for name, asked in batches(config).items():
        before = passes.made()
        batch.run(config, name)
        assert passes.made() - before == foretold(jobs.batch(asked)), name
    (average,) = Merge.read_lines(config.folder, variant="average", group="2")
    own = [(Scores.read(config.folder, model=task).scores, mean_of([task])) for task in TASKS]
    rates = set()
    for found, model in [*own, (average.scores, mean_of(TASKS))]:
        for task, asked in config.tasks.items():
            right = outcomes(model, tokenizer, Workspace(config).rows(task, "test"), asked)
            assert found[task].metric == asked.metric and found[task].restricted is None
            assert unpack(found[task].outcomes, asked.metric, 20).tolist() == right
            assert found[task].value == pytest.approx(sum(right) / 20)
            rates.add(found[task].value)
    assert len(rates) > 2
    assert average.anp_restricted is None


def benchmark(**asked):
    return Config.model_validate(
        {
            "benchmark": "b",
            "base": {"source": "./base"},
            "tasks": {"first": {**ASKED, **asked}, "second": ASKED},
            "merge": {"variants": ["average"]},
        }
    )


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write([*ROWS, {**ROWS[0], "options": ["the cat", "a dog"], "right": 1}])


def test_examples_that_lack_an_answer_are_left_out_if_answers_are_compared(own):
    """Whether the gold one or any is looked at decides what is drawn, and so which file may be read."""
    whole = {"missing": "drop", "sizes": dict.fromkeys(SPLITS, 30)}
    kept = {"accuracy": 21, "choice": 20}
    for metric, other in (("accuracy", "choice"), ("choice", "accuracy")):
        data.run(benchmark(metric=metric, **whole), "first")
        assert len(Workspace(benchmark(metric=metric, **whole)).rows("first", "test")) == kept[metric]
        with pytest.raises(Stale, match=r"was made from other settings than today's"):
            Workspace(benchmark(metric=other, **whole)).rows("first", "test")
    alike = benchmark(metric="choice_by_length", **whole)
    data.run(benchmark(metric="choice", **whole), "first")
    assert len(Workspace(alike).rows("first", "test")) == 20
    # What is drawn with nothing left out is the same by any metric.
    some = {"splits": dict.fromkeys(SPLITS, "train"), "sizes": {"train": 5, "validation": 5, "test": 5}}
    write(ROWS)
    data.run(benchmark(metric="accuracy", **some), "first")
    assert len(Workspace(benchmark(metric="choice", **some)).rows("first", "test")) == 5


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            ["the cat", "a dog"],
            r" has nothing in options\[2\]: fill it, or leave such examples out with missing",
        ),
        (
            ["the cat", "a dog", "the cat"],
            r": two answers are 'the cat', so that neither can be chosen: see prompt, answers",
        ),
        (
            ["the cat", "a dog", "the dog", "a cat"],
            r" has nothing in answers for options\[3\]: fill it, or leave such examples out with missing",
        ),
        (["the cat", "a dog", " "], r": answer 3 has no words, and so no likelihood: see prompt, answers"),
    ],
)
def test_answers_that_cannot_be_compared_are_refused_by_example(own, options, fault):
    write([*ROWS[:4], {**ROWS[0], "options": options, "right": 1}])
    with pytest.raises(UserError, match=rf"^tasks\.first: split 'train' of \S*own: example 5{fault}"):
        data.run(benchmark(), "first")
    if len(options) > 2:
        data.run(benchmark(metric="accuracy"), "first")
    if "nothing in" in fault:
        data.run(benchmark(missing="drop"), "first")
        assert len(Workspace(benchmark(missing="drop")).rows("first", "test")) == 4


@pytest.mark.parametrize("existing", [full], indirect=True)
def test_stand_ins_of_options_with_the_same_words_are_made(existing):
    """Shuffled, one option may be the other, which only matters where they are compared."""
    write([{**row, "options": ["a dog near", "near a dog", "dog a near"]} for row in ROWS])
    shuffled = {"divmerge": {"level": "task", "replaced": 0.5, "stand_ins": "shuffled"}}
    config = existing(TASKS, "average", merge={"variants": [shuffled]})
    data.run(config, "first")
    asked, (own, stand_ins) = (
        config.task("first"),
        (Workspace(config).reference_inputs("first", kind) for kind in ("", "shuffled")),
    )
    assert asked.metric == "choice" and len(stand_ins) == len(own)
    assert all(sorted(a.prompt) == sorted(b.prompt) for a, b in zip(stand_ins, own, strict=True))


@pytest.mark.parametrize("existing", [full], indirect=True)
def test_the_check_counts_the_tokens_of_options_and_the_prompts_that_these_leave_no_room(existing, tokenizer):
    """Neither shows in the gold answers alone."""
    long = "the river " * 30
    write([*ROWS[:4], {**ROWS[4], "options": ["a cat", "the dog", long], "right": 0}])
    few = {"sizes": dict.fromkeys(SPLITS, 30)}
    config = existing({name: {**asked, **few} for name, asked in TASKS.items()}, "average")
    longest = len(tokenizer(long).input_ids)
    remarks, extents = configuration.measured(config)
    assert extents == dict.fromkeys(TASKS, Extent(5, 5, 5, longest)) and not any(
        "truncated" in r for r in remarks
    )
    assert [Needs(config, False, sizes).answer for sizes in ({}, extents)] == [32, longest]
    settings = json.loads(Path("base/tokenizer_config.json").read_text())
    Path("base/tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": longest + 5}))
    remarks, _ = configuration.measured(config)
    assert sum("1 of 5 test prompts is longer than the model reads" in remark for remark in remarks) == 2


@pytest.mark.parametrize("existing", [full], indirect=True)
def test_the_check_finds_options_that_the_model_cannot_tell_apart(existing):
    write([*ROWS[:4], {**ROWS[4], "options": ["a cat", "a  cat", "the dog"], "right": 0}])
    config = existing(TASKS, "average")
    with pytest.raises(
        UserError, match=r"^tasks\.first: (test|validation): example [1-5] has two answers with the same"
    ):
        configuration.measured(config)


def test_a_list_may_have_more_entries_than_answers_name_where_these_are_not_its_first():
    rows = {"a": ["x", "y", None], "b": ["u", "v", "w"], "c": [{"t": "x"}, {"t": "y"}, {"t": "z"}]}
    for answers in (
        ["{a[0]}", "{a[1]}"],
        ["{b[1]}", "{b[2]}"],
        ["{b[0]}", "{a[1]}"],
        ["{b[0]} !", "{b[1]} !"],
    ):
        assert len(answers_of(Task.model_validate({**ASKED, "answers": answers}), rows)) == 2
    for answers in (["{b[0]}", "{b[1]}"], ["{b[1]}", "{b[0]}"], ["{c[0][t]}", "{c[1][t]}"]):
        with pytest.raises(MissingError, match=r"^answers for [bc]\[2\]"):
            answers_of(Task.model_validate({**ASKED, "answers": answers}), rows)
