"""The released configurations: each plans a whole run offline, and asks what its datasets hold.

That each loads, with methods and parameters, is tested in test_config.py.
"""

from pathlib import Path

import pytest
import yaml
from projects import planned

from remerge import config as configuration
from remerge import tasks
from remerge.batches import batches
from remerge.variants import start_of

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))
CLASSES = {
    "cars": 196,
    "dtd": 47,
    "eurosat": 10,
    "gtsrb": 43,
    "mnist": 10,
    "resisc45": 45,
    "sun397": 397,
    "svhn": 10,
}
QASC = {
    "formatted_question": "What can be used to measure seconds? (A) Watch (B) sand",
    "choices": {"text": ["Watch", "sand", "fluid", "Ruler", "goggles", "glasses", "Drill", "Scale"]},
    "answerKey": "H",
    "fact1": "A watch is used for measuring time.",
    "fact2": "Times are measured in seconds.",
}
PAIR = {"sentence1": "Cats sleep.", "sentence2": "A cat sleeps.", "label": 1}
# For each task of words a row of its public dataset, the question (of qasc a part), the answer, its class.
ROWS: dict[str, tuple[dict, str, str | None, int | None]] = {
    "imdb": ({"text": "A film.", "label": 1}, "A film.", "positive", None),
    "squad": (
        {"question": "Who?", "context": "Ada wrote it.", "answers": {"text": ["Ada", "Ada L."]}},
        "question: Who?  context: Ada wrote it.",
        "Ada",
        None,
    ),
    "common_gen": (
        {"concepts": ["tree", "dig", "hole"], "target": "Dig a hole for the tree."},
        "tree dig hole",
        "Dig a hole for the tree.",
        None,
    ),
    "qasc": (QASC, "(B) sand", "Scale", 7),
    "paws": (PAIR, "sentence1: Cats sleep. sentence2: A cat sleeps.", None, 1),
    "quartz": (
        {
            "question": "Which?",
            "choices": {"text": ["more", "less"]},
            "answerKey": "B",
            "para": "Heat rises.",
        },
        "question: Which? (A) more (B) less context: Heat rises.",
        None,
        1,
    ),
    "story_cloze": (
        {f"InputSentence{i}": f"S{i}." for i in range(1, 5)}
        | {f"RandomFifthSentenceQuiz{i}": f"E{i}." for i in (1, 2)}
        | {"AnswerRightEnding": 2},
        "Story continuation choices: (A) E1. (B) E2. Story: S1. S2. S3. S4.",
        None,
        1,
    ),
    "wiki_qa": ({"question": "who?", "answer": "Ada.", "label": 0}, "question: who? answer: Ada.", None, 0),
    "winogrande": (
        {
            "sentence": "The cup, not the jug, fits: _ is small.",
            "option1": "cup",
            "option2": "jug",
            "answer": "1",
        },
        "The cup, not the jug, fits: _ is small. (1) cup (2) jug",
        None,
        0,
    ),
    "cola": ({"sentence": "Cats sleeps.", "label": 0}, "Cats sleeps.", None, 0),
    "sst2": ({"sentence": "great fun", "label": 1}, "great fun", None, 1),
    "mnli": ({"premise": "P.", "hypothesis": "H.", "label": 2}, "premise: P. hypothesis: H.", None, 2),
    "qnli": ({"question": "Q?", "sentence": "S.", "label": 1}, "question: Q? sentence: S.", None, 1),
    "rte": (PAIR, "sentence1: Cats sleep. sentence2: A cat sleeps.", None, 1),
}
WORDS = ("divmerge-generation", "drm-deberta", "drm-llama-lora", "drm-t5-base", "drm-t5-large")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_whole_run_is_planned_offline(path, tmp_path):
    counts = planned("--configfile", path, "--cores", "2", "--scheduler", "greedy", folder=tmp_path)
    config = configuration.load(path)
    assert counts["experts"] == len(config.models) - 1
    merges = sum(count for rule, count in counts.items() if rule.startswith("merge_"))
    assert merges == len(batches(config))
    assert not (tmp_path / "results").exists()


def test_the_multitask_model_is_missing_where_the_readme_says():
    without = [path for path in CONFIGS if not configuration.load(path).finetune.multitask]
    built = [path.stem for path in without if "include" in yaml.safe_load(path.read_text())]
    assert {path.stem for path in without} - {*built} == {"divmerge-generation", "flan-t5-glue", "own"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_choice_is_between_different_merges(path):
    """Of a pair, to start from 1/T is to start from 0.5."""
    config = configuration.load(path)
    for variant in config.merge.variants:
        points = config.grid(variant).sample
        for plan in config.chosen_for(variant):
            sizes = {len(case.tasks) for case in config.tuning(variant, plan)}
            starts = [[start_of(p["initial"], size) for size in sizes] for p in points if "initial" in p]
            made = [str(point | {"initial": start}) for point, start in zip(points, starts, strict=False)]
            assert len(set(made)) == len(made)


@pytest.mark.parametrize("name", WORDS)
def test_questions_and_answers_are_in_the_columns_of_the_public_datasets(name):
    config = configuration.load(ROOT / f"config/{name}.yaml")
    for task, settings in config.tasks.items():
        row, question, spoken, number = ROWS[task]
        ((asked, answer),) = tasks.pairs(task, settings, [row], config.base.speaks)
        assert asked == question or (task == "qasc" and question in asked)
        assert answer == (spoken if config.base.speaks else number), task
        assert settings.target in row or not settings.splits.stratify


def test_flan_t5_is_asked_what_its_experts_were_trained_on():
    config = configuration.load(ROOT / "config/flan-t5-glue-lora.yaml")
    two = {"sentence1": "A.", "sentence2": "B."}
    rows = {
        "cola": ({"sentence": "A.", "label": 0}, 'not: "A.". Answere', "unacceptable"),
        "mnli": (
            {"premise": "A.", "hypothesis": "B.", "label": 2},
            "premise: 'A.' logically",
            "contradiction",
        ),
        "mrpc": ({**two, "label": 1}, "sentences 'A.' and 'B.' conveying", "yes"),
        "qnli": ({"question": "Q?", "sentence": "A.", "label": 1}, "context: 'A.', does", "no"),
        "qqp": ({"question1": "A?", "question2": "B?", "label": 1}, "'A?' and 'B?' have", "yes"),
        "rte": ({**two, "label": 0}, "text: 'A.' entail that 'B.' is", "yes"),
        "sst2": ({"sentence": "A.", "label": 1}, "sentence 'A.', determine", "positive"),
        "stsb": ({**two, "label": 3.799999952316284}, "(completely similar), rate", "3.8"),
    }
    assert rows.keys() == config.tasks.keys()
    for task, (row, words, answer) in rows.items():
        asked = [row, row | {"label": 0 if row["label"] else 1}]
        (prompt, said), _ = tasks.pairs(task, config.tasks[task], asked, speaks=True)
        assert words in prompt and said == answer
        assert config.tasks[task].expert == f"tanganke/flan-t5-base_glue-{task}_lora-16"


def test_every_class_of_the_image_datasets_has_a_name():
    small, large = (configuration.load(ROOT / f"config/drm-vit-{size}.yaml") for size in ("b32", "l14"))
    for task, classes in CLASSES.items():
        answers = small.tasks[task].answers
        assert len(answers) == len(set(answers)) == classes
        if task in ("dtd", "resisc45", "sun397"):  # their labels follow the alphabet
            assert [a.replace(" ", "_") for a in answers] == sorted(a.replace(" ", "_") for a in answers)
        assert all("{answer}" in caption for caption in small.tasks[task].captions)
        assert answers == large.tasks[task].answers
        assert small.tasks[task].captions == large.tasks[task].captions
    assert list(small.tasks) == list(large.tasks) == list(CLASSES)
