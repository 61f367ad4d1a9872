"""Every stage of a benchmark and its exhibits, for every family, on models of a few thousand weights."""

import json
from functools import partial
from math import comb

import pytest
import torch
import yaml
from peft import PeftModel
from recording import on_a_cpu
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from remerge import exhibits, miniature, passes
from remerge.batches import batches
from remerge.blend import Blend
from remerge.config import RIGHT_OR_WRONG, dump, load
from remerge.measures.score import score
from remerge.methods import find
from remerge.outcomes import pack, unpack
from remerge.report.run import Run
from remerge.stages import base as base_stage
from remerge.stages import (
    batch,
    data,
    divergences,
    experts,
    references,
    scores,
    statistics,
    weights,
)
from remerge.stages._bench import Bench
from remerge.stages._workspace import Workspace

CLASSES = {
    "cola": {"prompt": "{sentence}", "answers": ["unacceptable", "acceptable"]},
    "mnli": {"prompt": "{premise} | {hypothesis}", "answers": ["entailment", "neutral", "contradiction"]},
    "sst2": {"prompt": "{sentence}", "answers": ["negative", "positive"]},
}
WORDS = {
    "imdb": {
        "prompt": miniature.FORMATS["imdb"].prompt,
        "answers": ["negative", "positive"],
        "metric": "choice_by_length",
    },
    "squad": {
        "prompt": miniature.FORMATS["squad"].prompt,
        "target": "{answers[text][0]}",
        "metric": "rougeL",
    },
    "common_gen": {
        "prompt": miniature.FORMATS["common_gen"].prompt,
        "target": "target",
        "metric": "rouge1",
    },
}
FREE = {
    "cola": {**CLASSES["cola"], "metric": "matthews"},
    "mnli": {**CLASSES["mnli"], "metric": "exact_match", "answer_tokens": 3},
    "sst2": {**CLASSES["sst2"], "metric": "token_f1", "answer_tokens": 5},
}
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
IMAGES = {
    "digit": {"image": "image", "answers": NUMBERS, "captions": ["the digit {answer}"]},
    "parity": {
        "image": "image",
        "answers": ["even", "odd"],
        "captions": ["the {answer} digit"],
        "metric": "f1",
    },
    "turned": {
        "image": "image",
        "answers": ["upright", "left", "over", "right"],
        "captions": ["the digit turned {answer}"],
    },
}
PICTURES = {name: {"image": "image", "answers": task["answers"]} for name, task in IMAGES.items()}
LORA = {"rank": 2, "alpha": 4, "targets": ["q_proj", "v_proj"]}
WORLDS = {
    "t5": ("seq2seq", WORDS, "divmerge", {}),
    "llama": ("classifier", CLASSES, "drm", {"lora": LORA, "learning_rate": 0.05}),
    "deberta": ("classifier", {**CLASSES, "cola": FREE["cola"]}, None, {}),
    "clip": ("clip", IMAGES, None, {}),
    "chat": ("chat", FREE, "fusionbench", {}),
    "vit": ("image_classifier", PICTURES, None, {}),
}
GRID = {"inputs": 4, "epochs": 1, "learning_rate": {"tune": [0.01]}}
VARIANTS = [
    "average",
    {"ties": {"density": 0.5}},
    {"drm_h": {}},
    "regmean",
    "fisher",
    {"adamerging": {"level": "layer"}},
    {"divmerge": {"divergence": "js", "level": "task"}},
]
MORE = {
    None: [],
    "fusionbench": [],
    "divmerge": [
        *({"divmerge": {"divergence": "kl", "level": "task", "inputs": inputs}} for inputs in (2, 3)),
        {"divmerge": {"divergence": "js", "level": "task", "replaced": 0.5, "stand_ins": "other"}},
        {"divmerge": {"divergence": "js", "level": "task", "replaced": 0.5, "stand_ins": "shuffled"}},
        {"dare_ties": {"seeds": 2}},
        {"divmerge": {"divergence": "js", "level": "task", "over": "tsv_m"}},
    ],
    "drm": [
        "task_arithmetic",
        "dare_ties",
        "drm_v",
        {"drm_h": {"density": {"tune": [0.2, 0.5]}, "scale": {"tune": [0.8, 1.0, 1.2]}}},
        *({"drm_h": {step: False}} for step in ("renormalise", "prune", "elect", "disjoint")),
        *({method: {"pruning": "individual"}} for method in ("drm_h", "drm_v")),
        {"drm_h": {"rank": 0.5}},
        {"drm_h": {"others": "disjoint"}},
        {"divmerge": {"divergence": "js", "level": "task", "over": "ties@density=0.5"}},
        {"divmerge": {"divergence": "js", "level": "task", "over": "knots"}},
    ],
}
"""What a paper's exhibits are of, beside what every family is tried on."""
EXHIBITS: dict[str | None, set[str]] = {
    None: {"anp", "pairs", "experts", "tasks"},
    "fusionbench": {"fusionbench_experts", "fusionbench_tasks"},
    "divmerge": {*(f"divmerge_figure{n}" for n in (2, 3, 4, 5, 6, 7, 9))}
    | {*(f"divmerge_table{n}" for n in (2, 3, 4, 5, 7, 8, 9)), "approximated", "seeds"}
    | {"prepared"},
    "drm": {*(f"drm_figure{n}" for n in (2, 3, 5, 6, 7)), *(f"drm_table{n}" for n in (3, 4, 7, 8))}
    | {"prepared"},
}


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as made:
        # Three steps leave experts that may be right nowhere: ANP needs a score to divide by.
        for module in ("scores", "_bench"):
            made.setattr(f"remerge.stages.{module}.score", lambda *given: _at_least(score(*given)))
        made.setattr("remerge.families.seq2seq.ANSWER_TOKENS", 6)
        yield made


@pytest.fixture(scope="module", params=list(WORLDS))
def world(request, tmp_path_factory, patch, bases):
    """A benchmark with every stage before the merges done."""
    tmp_path = tmp_path_factory.mktemp("world")
    patch.chdir(tmp_path)
    family, tasks, paper, recipe = WORLDS[request.param]
    sizes = {"train": 16, "validation": 4, "test": 6}
    raw = {
        "benchmark": request.param,
        "paper": paper,
        "base": {"source": str(bases[request.param]), "family": family},
        "tasks": {name: {"source": "miniature", "sizes": sizes, **task} for name, task in tasks.items()},
        "finetune": {"steps": 3, "batch_size": 4, "learning_rate": 0.01, **recipe},
        "merge": {
            "variants": VARIANTS + MORE[paper],
            "defaults": {"adamerging": GRID, "divmerge": GRID},
        },
        "plans": {"subsets": {"tune_on": ["+".join(list(tasks)[:2])]}},
        "statistics": {"inputs": 4},
        "evaluation": {"watch": 2},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(raw))
    config = load(tmp_path / "c.yaml")
    base_stage.run(config)
    for task in tasks:
        data.run(config, task)
    for task in (*tasks, "multitask"):
        experts.run(config, task)
    scores.run(config)
    for task in tasks:
        references.run(config, task)
    divergences.run(config)
    weights.run(config)
    return config


def _at_least(found):
    """The score, of one that is right nowhere that of one that is right once."""
    if found["value"] >= 0.01:
        return found
    first = 1.0 if found["metric"] in RIGHT_OR_WRONG else 0.1
    single = [first, *[0.0] * (found["n"] - 1)]
    return found | {"value": first / found["n"], "outcomes": pack(single, found["metric"])}


def test_every_stage_and_every_exhibit_of_its_records(world):
    space = Workspace(world)
    for task in world.tasks:
        for kind in ("fisher", "grams"):
            statistics.run(world, task, kind)
            found = space.statistics(task, kind)
            parameters = Bench(world).parameters
            assert set(found) <= set(parameters)
            assert any(tensor.abs().sum() > 0 for tensor in found.values())
        own = json.loads((world.folder / f"divergences/{task}.json").read_text())["divergences"]
        assert own[task]["kl"] == pytest.approx(0, abs=1e-5)
        assert max(other["kl"] for other in own.values()) > 1e-6
    for name in batches(world):
        batch.run(world, name)
    for variant in world.merge.variants:
        for size in (2, 3):
            lines = (world.folder / f"merges/{variant.name}/{size}.jsonl").read_text().splitlines()
            assert len(lines) == variant.seeds * comb(3, size)
            for line in map(json.loads, lines):
                assert 0 < line["anp"] < float("inf")
                for task, found in line["scores"].items():
                    assert found["metric"] == world.tasks[task].metric
                    single = unpack(found["outcomes"], found["metric"], 6)
                    assert found["n"] == len(single) == 6
                    assert single.mean() == pytest.approx(found["value"], abs=1e-3)
    (world.folder / "config.yaml").write_text(dump(world))
    made = exhibits.of(world)
    assert EXHIBITS[world.paper] <= {*made}
    assert ("joint" in made) == (world.base.family == "clip")
    run = Run(world.folder)
    # DRM's other tables are of the same rows, by another base or kind of task.
    others = [f"drm_table{n}" for n in (5, *range(10, 16))] if world.paper == "drm" else []
    for exhibit in (*made.values(), *(exhibits.known()[name] for name in others)):
        exhibit.text({**run.facts, **exhibit.build(run).facts})
    for exhibit in exhibits.of([world]).values():
        exhibit.text(exhibit.build([run]).facts)


def test_an_expert_is_the_same_whatever_was_drawn_before(world):
    task = next(iter(world.tasks))
    record = world.folder / f"experts/{task}.json"
    before = json.loads(record.read_text())["fingerprint"]
    torch.manual_seed(12345)
    experts.run(world, task)
    assert json.loads(record.read_text())["fingerprint"] == before


def test_a_merge_of_one_is_the_expert(world):
    """Written as a merge, an expert answers as by itself: body, head and adapter are its own."""
    bench, space = Bench(world), Workspace(world)
    average = find("average")
    for task in world.tasks:
        bench.merge(average, average.settings({}), {task: 1})
        batch = space.family.collate(space.split(task, "test").examples, space.device)
        with torch.no_grad():
            found = space.family.logits(bench.model, batch)
            expected = space.family.logits(space.load(task, [task]), batch)
        assert torch.allclose(found, expected, atol=1e-5)


def test_losses_are_of_logits_in_float32_where_training_mixes_precisions(world):
    """As on a GPU, where early stopping compares them."""
    space = Workspace(world)
    task = next(iter(world.tasks))
    batch = space.family.collate(space.split(task, "test").examples, space.device)
    model = space.load(task, [task])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = space.family.logits(model, batch)
    assert mixed.dtype == torch.float32 and not torch.equal(mixed, space.family.logits(model, batch))


def test_low_rank_task_vectors_learn_as_dense_ones(world):
    bench = Bench(world)
    weights = bench.deltas(dict.fromkeys(list(world.tasks)[:2], 1))
    factored = {name: weights.factors(name) for name in weights}
    if world.finetune.lora is None:
        assert not any(factored.values())
        return
    assert all(factored.values())
    gradients, merged = [], []
    for tau in (factored, {name: weights[name] for name in weights}):
        blend = Blend(bench.model, bench.base_of(tau), tau)
        lam = torch.tensor([[0.3], [0.8]])
        blend.write(lam)
        merged.append({name: p.detach().clone() for name, p in blend.parameters.items()})
        batch = bench.space.family.collate(bench.space.split("cola", "test").examples, bench.space.device)
        gradients.append(blend.gradient(lam, partial(squares, bench, batch))[1])
        assert all(p.grad is None for p in bench.model.parameters())
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4)
    assert all(torch.allclose(merged[0][name], merged[1][name], atol=1e-6) for name in merged[0])


def test_recorded_steps_learn_the_same(world, monkeypatch):
    """In every family, what a GPU would play back is the step: masks, heads and padding included."""
    bench, divmerge = Bench(world), find("divmerge")
    settings = divmerge.settings({"level": "layer", "inputs": 4, "epochs": 4, "learning_rate": 0.05})
    tasks = list(world.tasks)
    expected = bench.fit(divmerge, settings, tasks, 0)
    graphs = on_a_cpu(monkeypatch)
    before = passes.made()
    found = bench.fit(divmerge, settings, tasks, 0)
    assert passes.made() - before == len(found.trace) == len(expected.trace)
    assert sum(graph.played for graph in graphs) > len(found.trace) / 2
    assert torch.allclose(found.lam, expected.lam, atol=1e-4)
    assert found.trace == pytest.approx(expected.trace, rel=1e-4)
    assert (found.lam - expected.course[0]).abs().max() > 0.02


def test_experts_are_what_their_libraries_load(world):
    """A fine-tuned classifier loads by `from_pretrained`, an adapter by PEFT, its head with it."""
    space = Workspace(world)
    if world.base.family != "classifier":
        return
    examples = space.split("cola", "test").examples
    expected = space.family.logits(space.load("cola", ["cola"]), space.family.collate(examples, space.device))
    adapted = world.finetune.lora is not None
    folder = space.path("base") if adapted else space.path("cola")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    if adapted:
        assert any("lora_A" in n for n in load_file(space.path("cola") / "adapter_model.safetensors"))
        model = PeftModel.from_pretrained(model, space.path("cola")).eval()
    model.config.pad_token_id = space.family.fill
    inputs = space.family.collate(examples, space.device).inputs
    with torch.no_grad():
        assert torch.allclose(model(**inputs).logits.float(), expected, atol=1e-5)


def squares(bench, batch):
    """A loss that depends on every logit."""
    return bench.space.family.logits(bench.model, batch).square().sum()
