"""Merges of a benchmark in one process: every method, against `remerge.merge` on the same weights."""

import json
import shutil
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from stages.conftest import lora
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2PreTrainedModel

import remerge
from remerge import learn, miniature
from remerge.batches import batches
from remerge.blend import Blend
from remerge.checkpoints.models import held, state_of
from remerge.config import dump, load, validate
from remerge.config.merging import Tune
from remerge.deltas import Combined, Deltas, Merged
from remerge.errors import UserError
from remerge.families import Example, family
from remerge.measures import curvature
from remerge.measures.references import divergences
from remerge.measures.score import accuracy
from remerge.methods import Scale, find, prepare
from remerge.plans import Case
from remerge.records import Divergences, Selection
from remerge.stages import _code, _loaded, data, experts, merges, references, selection, share, statistics
from remerge.stages import base as base_stage
from remerge.stages import divergences as divergences_stage
from remerge.stages._again import again
from remerge.stages._bench import Bench
from remerge.stages._workspace import Workspace

TASKS = ("cola", "sst2", "mnli")
EMBEDDING = "model.embed_tokens.weight"
SCALES = {"cola": 0.3, "sst2": 0.5, "mnli": -0.2}
LAYERS = {"model.layers.0": SCALES, "model.layers.1": 0.4, "other": {"cola": 0, "sst2": 0.1, "mnli": 1}}
LEARNED = {"inputs": 4, "epochs": 1, "learning_rate": {"tune": [0.01, 0.1]}}
PARAMS = {
    "adamerging": {"over": "ties@aggregate=sum"},
    "layerwise": {"scale": LAYERS},
    "task_arithmetic": {"scale": SCALES},
}


@pytest.fixture
def bench(tmp_path, monkeypatch, model, tokenizer):
    """A base and three experts on disk, with data, references, statistics and scores."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    generator = torch.Generator().manual_seed(4)
    base = {name: tensor.clone() for name, tensor in state_of(model).items()}
    tokenizer.save_pretrained("base")
    model.save_pretrained("base")
    raw = {
        "benchmark": "b",
        "base": {"source": "./base"},
        "tasks": {},
        "merge": {
            "variants": [{m: PARAMS.get(m, {})} for m in remerge.methods()],
            "defaults": dict.fromkeys(("adamerging", "divmerge"), LEARNED),
        },
        "plans": {"subsets": {"tune_on": ["cola+mnli"]}},
        "statistics": {"inputs": 4},
    }
    for task in TASKS:
        form = miniature.FORMATS[task]
        state = {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in base.items()}
        model.load_state_dict(state, strict=False)
        model.save_pretrained(task)
        raw["tasks"][task] = {
            "source": "miniature",
            "prompt": form.prompt,
            "answers": list(form.answers),
            "sizes": {"train": 8, "validation": 8, "test": 16},
            "expert": f"./{task}",
        }
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(raw))
    config = load(tmp_path / "b.yaml")
    base_stage.run(config)
    for task in TASKS:
        data.run(config, task)
        experts.run(config, task)
        references.run(config, task)
        for kind in ("fisher", "grams"):
            statistics.run(config, task, kind)
    # Untrained experts answer nothing right: their scores are given, so that ANP is defined.
    for task in TASKS:
        score = {"metric": "accuracy", "value": 0.5, "restricted": 0.5, "n": 16}
        path = config.folder / f"scores/{task}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"benchmark": "b", "model": task, "scores": {task: score}}))
    monkeypatch.setattr(Bench, "scores", _scores)
    return config


def _scores(self, tasks, split, among=()):
    """The share of answer tokens that are right, which tells untrained models apart."""
    found = {}
    for task in tasks:
        part = self.space.split(task, split)
        score = accuracy(self.space.family, self.model, part.examples, part.labels, 8)
        batch = self.space.family.collate(part.examples, self.space.device)
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(
                self.space.family.logits(self.model, batch), batch.targets
            )
        found[task] = score | {"value": float(1 / loss)}
    return found


def records(config, variant, size):
    path = config.folder / f"merges/{variant}/{size}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_method_merges_every_pair_as_in_python(bench):
    space = Workspace(bench)
    base = state_of(space.load_folder(space.path("base"), torch.float32))
    states = {task: state_of(space.load_folder(space.path(task), torch.float32)) for task in TASKS}
    for variant in bench.merge.variants:
        method = remerge.methods()[variant.method]
        if method.learned:
            selection.run(bench, variant.name, "subsets")
        merges.run(bench, variant.name, "2")
        lines = records(bench, variant.name, 2)
        assert [line["tasks"] for line in lines] == [["cola", "mnli"], ["cola", "sst2"], ["mnli", "sst2"]]
        for line in lines:
            assert line["anp"] == pytest.approx(100 * sum(line["normalised"].values()) / 2)
            assert set(method.parameters) <= set(line["params"])
            assert line["memory"] > 10**7  # the process that made it
        if method.learned:
            assert len(lines[0]["trace"]) == 4
            assert set(lines[0]["coefficients"]) == {"cola", "mnli"}
            continue
        pair = {task: states[task] for task in ("cola", "mnli")}
        given = {}
        if kind := method.needs.statistics:
            given["statistics"] = {task: space.statistics(task, kind) for task in pair}
        made = Bench(bench)
        merged = remerge.merge(variant.method, base, pair, **variant.params, **given)
        for name, parameter in made.parameters.items():
            parameter.copy_(merged[name])
        expected = made.scores(["cola", "mnli"], "test")
        for task in pair:
            assert lines[0]["scores"][task]["value"] == pytest.approx(expected[task]["value"], rel=1e-5)


def test_inputs_that_are_not_there_are_not_recorded_as_used(bench):
    raw = yaml.safe_load(dump(bench))
    raw["merge"]["variants"] = [{"divmerge": {"inputs": 100, "learning_rate": 0.01}}]
    config = validate(raw, bench.folder / "config.yaml")
    (variant,) = config.merge.variants
    merges.run(config, variant.name, "2")
    (line, *_) = records(config, variant.name, 2)
    assert (line["params"]["inputs"], len(line["trace"])) == (8, 8)  # of eight validation examples


def test_a_merge_that_was_tried_is_not_learned_again_and_others_are_not_kept(bench, monkeypatch):
    variant = next(v for v in bench.merge.variants if v.method == "divmerge")
    selection.run(bench, variant.name, "subsets")
    merges.run(bench, variant.name, "2")
    alone = records(bench, variant.name, 2)
    for path in bench.folder.glob(f"journal/*/**/{variant.name}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    made, fitted, fit = Bench(bench), [], learn.fit
    monkeypatch.setattr(learn, "fit", lambda *given, **how: (fitted.append(how), fit(*given, **how))[1])
    selection.choose(made, variant, "subsets")
    tried = len(fitted)
    assert tried == len(made._remembered) > 0
    merges.make(made, variant, "2")
    assert len(fitted) == tried + len(alone) - 1 and len(made._remembered) == tried
    for line, expected in zip(records(bench, variant.name, 2), alone, strict=True):
        same = ("scores", "coefficients", "trace", "course")
        assert {key: line[key] for key in same} == {key: expected[key] for key in same}


def test_coefficients_are_not_learned_from_losses_that_no_other_run_repeats(bench):
    """They would be others when the merge is made again, for an export."""

    def random(expert: Tensor, merged: Tensor, *, divergence: str = "js") -> Tensor:
        return merged[:, 0] * torch.rand(())

    method = replace(find("divmerge"), function=random)
    with pytest.raises(UserError, match="divmerge: it draws random numbers that no other run repeats"):
        Bench(bench).fit(method, method.settings({"inputs": 4}), TASKS, 0)


def test_pairs_are_scored_on_their_way_where_that_is_asked_for(bench):
    variant = next(v.name for v in bench.merge.variants if v.method == "divmerge")
    selection.run(bench, variant, "subsets")
    merges.run(bench, variant, "2")
    plain = records(bench, variant, 2)
    watched = validate({**bench.model_dump(mode="json"), "evaluation": {"watch": 3}}, Path("b.yaml"))
    for size in ("2", "3"):
        merges.run(watched, variant, size)
    for old, new in zip(plain, records(bench, variant, 2), strict=True):
        course = new["course"]
        assert course["steps"] == [0, 1, 2, 3, 4] and course["scored"] == [0, 2, 4]
        assert course["anp"][-1] == pytest.approx(new["anp"]) and course["anp"][0] != course["anp"][1]
        assert {key: old[key] for key in ("scores", "coefficients", "trace")} == {
            key: new[key] for key in ("scores", "coefficients", "trace")
        }
        assert old["course"]["scored"] == [] and old["course"]["coefficients"] == course["coefficients"]
        for task, last in new["coefficients"].items():
            assert course["coefficients"][task][-1] == pytest.approx(last, abs=1e-4)
    (three,) = records(bench, variant, 3)
    assert three["course"]["scored"] == []


def test_stand_ins_replace_so_many_of_a_task_s_own_inputs(bench):
    variants = [
        {"divmerge": {"replaced": 0.5, "learning_rate": 0.1}},
        {"divmerge": {"replaced": 1.0, "stand_ins": "other", "learning_rate": 0.1}},
        {"divmerge": {"learning_rate": 0.1}},
    ]
    config = with_(bench, variants)
    assert config.stand_ins == ["other", "shuffled"] and with_(bench, variants[2:]).stand_ins == []
    for task in TASKS:
        references.run(config, task)
    made, method = Bench(config), find("divmerge")
    shuffled, other, own = (
        made.inputs("cola", method.learning(method.settings(config.params(variant))))
        for variant in config.merge.variants
    )
    first = own.examples[0].prompt
    assert [s.prompt == o.prompt for s, o in zip(shuffled.examples, own.examples, strict=True)] == [
        False,
        False,
        True,
        True,
    ]
    assert (
        sorted(shuffled.examples[0].prompt) == sorted(first) and shuffled.examples[0].prompt[:2] == first[:2]
    )
    assert [config.next_task(task) for task in config.tasks] == ["mnli", "sst2", "cola"]
    assert [e.prompt for e in other.examples] == [e.prompt for e in made.reference("mnli").examples[:4]]
    expert = state_of(made.space.load_folder(made.space.path("cola"), torch.float32))
    for name, parameter in made.parameters.items():
        parameter.copy_(expert[name])
    for given in (shuffled, other):  # the task's own expert answers them
        found = divergences(made.space.family, made.model, given, 2)
        assert found["n"] == 4 and found["kl"] < 1e-6
    found = {}
    for variant in config.merge.variants:
        merges.run(config, variant.name, "3")
        found[variant.name] = str(records(config, variant.name, 3)[0]["coefficients"])
    assert len(set(found.values())) == 3
    # Another subset, which was not scored: its tasks' stand-ins are of the whole benchmark.
    assert again(config, config.merge.variants[1].name, "cola+sst2").coefficients.keys() == {"cola", "sst2"}


def test_finished_merges_are_recalled_and_changed_ones_are_not(bench):
    merges.run(bench, "average", "2")
    first = records(bench, "average", 2)
    merges.run(bench, "average", "2")
    assert records(bench, "average", 2) == first
    state = dict(
        Workspace(bench).state("sst2", held(Workspace(bench).load_folder(Path("base"), torch.float32)))
    )
    save_file({k: v + 0.01 for k, v in state.items()}, "sst2/model.safetensors", {"format": "pt"})
    experts.run(bench, "sst2")
    merges.run(bench, "average", "2")
    again = records(bench, "average", 2)
    assert again[0] == first[0]
    assert again[1] != first[1]
    assert again[1]["scores"]["sst2"] != first[1]["scores"]["sst2"]


def test_the_selection_is_the_best_mean_on_validation(bench):
    name = next(v.name for v in bench.merge.variants if v.method == "divmerge")
    selection.run(bench, name, "subsets")
    found = json.loads((bench.folder / f"selection/{name}.json").read_text())
    assert [point["params"] for point in found["grid"]] == [{"learning_rate": 0.01}, {"learning_rate": 0.1}]
    best = max(found["grid"], key=lambda point: point["mean"])
    assert found["chosen"] == best["params"]
    assert set(best["validation"]) == {"cola+mnli"}


def with_(config, variants, **changes):
    """The benchmark with other variants, plans or rules."""
    raw = config.model_dump(mode="json")
    raw["merge"]["variants"] = variants
    raw |= changes
    return validate(raw, Path("b.yaml"))


def test_a_search_tries_some_of_a_large_grid_and_goes_on_where_it_was_cut_short(bench):
    scales = [round(0.05 * k, 2) for k in range(1, 41)]
    variants = [{"task_arithmetic": {"scale": {"tune": scales}}}]
    config = with_(bench, variants).model_copy(update={"tune": Tune(search="tpe", trials=12)})
    name, journal = "task_arithmetic@tuned", config.folder / "journal/selection/subsets"
    selection.run(config, name, "subsets")
    file = config.folder / f"selection/{name}.json"
    found, lines = json.loads(file.read_text()), (journal / f"{name}.jsonl").read_text().splitlines()
    tried = [point["params"]["scale"] for point in found["grid"]]
    assert tried == sorted(tried) and 1 < len(tried) <= 12 and len(lines) == len(tried)
    best = max(point["mean"] for point in found["grid"])
    assert found["chosen"] == next(p["params"] for p in found["grid"] if p["mean"] == best)
    (journal / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines[:4]))
    selection.run(config, name, "subsets")
    assert json.loads(file.read_text()) == found
    assert len((journal / f"{name}.jsonl").read_text().splitlines()) == len(lines)
    # One process makes a search, though several share in the rest.
    (journal / f"{name}.jsonl").unlink()
    sharing = config.model_copy(update={"shards": 3})
    assert len(batches(sharing)["select/task_arithmetic"].shares(sharing)) == 1
    share.run(sharing, "select/task_arithmetic", 1)
    assert len((journal / f"{name}~1.jsonl").read_text().splitlines()) == len(lines)
    selection.run(sharing, name, "subsets")
    assert json.loads(file.read_text()) == found
    # A grid of no more points is tried whole.
    few = config.model_copy(update={"tune": Tune(search="tpe", trials=40)})
    assert not few.is_searched(few.merge.variants[0]) and few.trials(few.merge.variants[0]) == 40


def test_an_evolution_chooses_each_experts_coefficient_of_each_layer(bench):
    """There are 11^9 points, and the search continues where it was cut short."""
    values = [round(0.1 * k, 1) for k in range(11)]
    scale = {at: {task: {"tune": values} for task in TASKS} for at in LAYERS}
    tune = {"search": "cma", "trials": 40}
    config = with_(bench, [{"layerwise": {"scale": scale}}], tune=tune)
    name = "layerwise@tuned"
    selection.run(config, name, "subsets")
    file, journal = (config.folder / f"{at}/{name}" for at in ("selection", "journal/selection/subsets"))
    file, journal = file.with_name(f"{name}.json"), journal.with_name(f"{name}.jsonl")
    whole, lines = file.read_bytes(), journal.read_text().splitlines()
    found = json.loads(whole)
    assert 20 < len(found["grid"]) == len(lines) <= 40
    assert found["chosen"] == max(found["grid"], key=lambda point: point["mean"])["params"]
    merges.run(config, name, "2")
    assert records(config, name, 2)[0]["params"] == found["chosen"]
    journal.write_text("".join(f"{line}\n" for line in lines[:17]))
    selection.run(config, name, "subsets")
    assert file.read_bytes() == whole
    assert sorted(journal.read_text().splitlines()) == sorted(lines)


def test_a_grid_is_tuned_scales_by_rescaling_one_merge(bench):
    grid = {"density": {"tune": [0.3, 0.9]}, "scale": {"tune": [0.5, 1.0, 1.5]}}
    config = with_(
        bench,
        [{"ties": grid}, *({"ties": {"density": d, "scale": s}} for d in (0.3, 0.9) for s in (0.5, 1.5))],
    )
    assert config.merge.variants[0].name == "ties@tuned"
    selection.run(config, "ties@tuned", "subsets")
    found = json.loads((config.folder / "selection/ties@tuned.json").read_text())
    assert len(found["grid"]) == 6
    own = Bench(config).unmerged("validation").own
    made = Bench(config)
    method = find("ties")
    for point in found["grid"]:
        made.merge(method, method.settings(point["params"]), {"cola": 1, "mnli": 1})
        scores = made.scores(["cola", "mnli"], "validation")
        anp = 50 * sum(score["value"] / own(task) for task, score in scores.items())
        assert point["mean"] == pytest.approx(anp, rel=1e-4)
    merges.run(config, "ties@tuned", "2")
    assert records(config, "ties@tuned", 2)[0]["params"] == method.settings(found["chosen"])
    # A merge is made again as it was scored, whatever is chosen meanwhile.
    (config.folder / "selection/ties@tuned.json").unlink()
    assert again(config, "ties@tuned", "cola+mnli").settings == method.settings(found["chosen"])


def test_a_merge_is_rescaled_from_the_base_where_it_was_placed(bench, monkeypatch):
    """On a GPU, reading the base's files again for each scale would take as long as loading the model."""
    monkeypatch.setattr(_loaded.Loaded, "_on_device", placed)
    made, method = Bench(bench), find("task_arithmetic")
    write = made.rescaled(method, method.settings({}), {"cola": 1, "mnli": 1})
    write(0.5)
    expected = {name: theta.clone() for name, theta in made.parameters.items()}
    for theta in made.theta_0.tensors.values():
        theta.fill_(torch.nan)
    write(0.2)
    write(0.5)
    assert equal(made.parameters, expected)


def test_a_tensor_that_a_method_leaves_out_is_refused(bench):
    """It had what the merge before had written there."""
    method, made = find("average"), Bench(bench)
    made.merge(method, method.settings({}), {"cola": 1, "mnli": 1})

    def some(deltas: Deltas) -> Merged:
        yield from ((name, deltas[name].mean(dim=0)) for name in [*deltas][1:])

    with pytest.raises(UserError, match=r"method average: a delta for .* where one for .* is next"):
        made.merge(replace(method, function=some), {}, {"cola": 1, "mnli": 1})


def test_a_merge_that_is_not_proportional_to_its_scale_is_not_rescaled(bench):
    method = find("task_arithmetic")

    def squared(deltas: Deltas, *, scale: Scale) -> Combined:
        return deltas.combine([scale**2] * len(deltas.experts))

    with pytest.raises(UserError, match=r"its coefficients are not just its scale, .*Merged"):
        Bench(bench).rescaled(replace(method, function=squared), {"scale": 0.5}, {"cola": 1, "mnli": 1})


def placed(self, name):
    """A weight of the base on a device that is not that of its files."""
    return self._placed.setdefault(name, self.theta_0.tensors[name].clone())


def test_each_expert_has_a_coefficient_of_its_own_to_choose(bench):
    """The choice is a point of the grid at which no other is better, and merges are made with it."""
    values = [0.2, 0.8, 1.4]
    scale = {task: {"tune": values} for task in bench.tasks}
    config = with_(bench, [{"task_arithmetic": {"scale": scale}}])
    name = "task_arithmetic@tuned"
    selection.run(config, name, "subsets")
    found = json.loads((config.folder / f"selection/{name}.json").read_text())
    assert len(found["grid"]) == 3 ** len(config.tasks)
    own, made, method = Bench(config).unmerged("validation").own, Bench(config), find("task_arithmetic")
    for point in found["grid"][::5]:
        made.merge(method, method.settings(point["params"]), {"cola": 1, "mnli": 1})
        scores = made.scores(["cola", "mnli"], "validation")
        anp = 50 * sum(score["value"] / own(task) for task, score in scores.items())
        assert point["mean"] == pytest.approx(anp, rel=1e-4)
    assert found["chosen"] == max(found["grid"], key=lambda point: point["mean"])["params"]
    merges.run(config, name, "2")
    assert records(config, name, 2)[0]["params"] == found["chosen"]
    searched = config.model_copy(update={"tune": Tune(search="tpe", trials=5)})
    selection.run(searched, name, "subsets")
    few = json.loads((config.folder / f"selection/{name}.json").read_text())["grid"]
    assert 1 < len(few) <= 5
    assert all(point in found["grid"] for point in few)


def test_equal_merits_choose_the_first_of_the_grid(bench):
    config = with_(bench, [{"ties": {"density": 1.0, "scope": {"tune": ["tensor", "model"]}}}])
    selection.run(config, "ties@density=1.0,tuned", "subsets")
    found = json.loads((config.folder / "selection/ties@density=1.0,tuned.json").read_text())
    assert found["grid"][0]["mean"] == found["grid"][1]["mean"]
    assert found["chosen"] == {"scope": "tensor"}


def test_seeds_of_random_and_learned_variants(bench):
    config = with_(bench, [{"dare": {"seeds": 3, "seed": 5}}, "dare", {"dare": {"seed": 6}}])
    for variant in config.merge.variants:
        merges.run(config, variant.name, "3")
    lines = records(config, "dare@seed=5,seeds=3", 3)
    assert [line["seed"] for line in lines] == [5, 6, 7]
    assert len({line["anp"] for line in lines}) == 3
    assert lines[1]["scores"] == records(config, "dare@seed=6", 3)[0]["scores"]


def test_negation_subtracts_and_judges_controls(bench):
    config = with_(bench, [{"task_arithmetic": {"scale": 0.5}}], plans={"negation": {"tasks": ["cola"]}})
    merges.run(config, "task_arithmetic@scale=0.5", "negation")
    (line,) = [
        json.loads(x) for x in (config.folder / "merges/task_arithmetic@scale=0.5/negation.jsonl").open()
    ]
    assert (line["case"], line["signs"], line["tasks"]) == ("-cola", {"cola": -1}, ["cola"])
    assert set(line["others"]) == {"mnli", "sst2"}
    made = Bench(config)
    pair = made.deltas({"cola": 1})
    for name in pair:
        made.parameters[name].copy_(made.theta_0.tensors[name] - 0.5 * pair[name][0])
    expected = made.scores(["cola", "mnli"], "test")
    assert line["scores"]["cola"]["value"] == pytest.approx(expected["cola"]["value"], rel=1e-5)
    assert line["others"]["mnli"]["value"] == pytest.approx(expected["mnli"]["value"], rel=1e-5)


def test_an_analogy_of_three_is_judged_on_the_fourth(bench):
    raw, form = yaml.safe_load(dump(bench)), miniature.FORMATS["rte"]
    raw["tasks"]["rte"] = raw["tasks"]["mnli"] | {"prompt": form.prompt, "answers": list(form.answers)}
    raw["merge"]["variants"] = [{"task_arithmetic": {"scale": 1}}]
    raw["plans"] = {"analogy": {"a": "cola", "b": "sst2", "c": "mnli", "d": "rte"}}
    config = validate(raw, bench.folder / "config.yaml")
    data.run(config, "rte")
    experts.run(config, "rte")
    merges.run(config, "task_arithmetic@scale=1", "analogy")
    (line,) = [json.loads(x) for x in (config.folder / "merges/task_arithmetic@scale=1/analogy.jsonl").open()]
    assert line["scores"] == {} and line["anp"] is None
    made = Bench(config)
    weights = made.deltas({"mnli": 1, "sst2": 1, "cola": 1})
    for name in weights:
        c, b, a = weights[name]
        made.parameters[name].copy_(made.theta_0.tensors[name] + c + b - a)
    expected = made.scores(["rte"], "test")["rte"]["value"]
    assert line["others"]["rte"]["value"] == pytest.approx(expected, rel=1e-5)


def test_any_merge_can_be_judged_on_other_tasks(bench):
    config = with_(bench, ["average"], plans={"subsets": {"only": ["cola+mnli"], "judged": "all"}})
    merges.run(config, "average", "2")
    (line,) = records(config, "average", 2)
    assert (set(line["scores"]), set(line["others"])) == ({"cola", "mnli"}, {"sst2"})


def test_merges_of_another_tool_are_scored_or_refused(bench):
    (Path("mine.smk")).write_text("")
    config = with_(
        bench, ["mine", "average"], rules=["./mine.smk"], plans={"subsets": {"only": ["cola+mnli"]}}
    )
    made = Bench(config)
    average = find("average")
    made.merge(average, average.settings({}), {"cola": 1, "mnli": 1})
    folder = config.folder / "external/mine/cola+mnli"
    made.space.family.save(made.model, folder)
    merges.run(config, "mine", "2")
    merges.run(config, "average", "2")
    theirs, ours = (records(config, name, 2)[0] for name in ("mine", "average"))
    assert theirs["scores"] == ours["scores"]
    other = Qwen2Config.from_pretrained("sst2", num_hidden_layers=1)
    other.layer_types = ["full_attention"]
    AutoModelForCausalLM.from_config(other).save_pretrained(folder)
    with pytest.raises(UserError, match=r"cola\+mnli: tensor model\.layers\.1\..* is in the base"):
        merges.run(config, "mine", "2")


@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("measures/score.py", True),
        ("families/causal_lm.py", True),
        ("methods/interference/_select.py", True),
        ("methods/interference/ties.py", True),
        ("methods/decomposition/drm_h.py", False),
        ("stages/_bench.py", True),
        ("records/scores.py", True),
        ("plans/subsets.py", True),
        ("plans/negation.py", False),
        ("report/table.py", False),
        ("journal.py", False),
    ],
)
def test_a_key_follows_all_code_that_its_value_follows_from(bench, monkeypatch, file, again):
    config = with_(bench, ["ties"], plans={"subsets": {"only": ["cola+mnli"]}})
    merges.run(config, "ties", "2")
    read = Path.read_text
    package = Path(remerge.__file__).parent

    def edited(path, *args, **kwargs):
        return read(path, *args, **kwargs) + ("# edited" if path == package / file else "")

    monkeypatch.setattr(Path, "read_text", edited)
    _code._code.cache_clear()
    count, make = [], Bench.make
    monkeypatch.setattr(Bench, "make", lambda *given, **how: (count.append(given), make(*given, **how))[1])
    merges.run(config, "ties", "2")
    _code._code.cache_clear()
    assert bool(count) == again


def test_a_merge_follows_the_code_of_its_statistics_its_name_and_its_order(bench, monkeypatch):
    def key(config, case):
        return merges._Own(Bench(config), config.variant("fisher"), "subsets").key(case, 0)

    config = with_(bench, ["fisher"])
    forth = Case("cola+mnli", {"cola": 1, "mnli": 1}, ("cola", "mnli"))
    back = Case("mnli+cola", {"mnli": 1, "cola": 1}, ("cola", "mnli"))
    keys = [key(config, forth), key(config, back)]
    shutil.copytree(config.folder, config.folder.with_name("other"))
    keys.append(key(config.model_copy(update={"benchmark": "other"}), forth))
    read, edited = Path.read_text, Path(curvature.__file__)
    monkeypatch.setattr(Path, "read_text", lambda path, *a, **k: read(path, *a, **k) + "#" * (path == edited))
    _code._code.cache_clear()
    keys.append(key(config, forth))
    _code._code.cache_clear()
    assert len({*keys}) == len(keys)


def test_code_that_was_edited_while_it_ran_is_refused(bench, monkeypatch):
    """What has been imported is not what the file says now."""
    monkeypatch.setattr(_code, "STARTED", 0.0)
    _code._code.cache_clear()
    with pytest.raises(UserError, match=r"\.py: edited after this job had begun"):
        merges.run(bench, "average", "2")


def test_divergences_are_over_as_many_inputs_as_references_have(bench):
    for count in (5, 3):
        config = with_(bench, ["average"], learning={"references": count})
        for task in TASKS:
            references.run(config, task)
        divergences_stage.run(config)
        found = Divergences.read(config.folder, model="cola", benchmark="b").divergences
        assert {divergence.n for divergence in found.values()} == {count}


def test_experts_with_added_tokens(bench, tokenizer):
    """They are refused by name, or cut to the rows that the base has; those of another base are refused."""
    space = Workspace(bench)
    model = AutoModelForCausalLM.from_pretrained("sst2")
    before = state_of(model)[EMBEDDING].clone()
    grown = PreTrainedTokenizerFast.from_pretrained("base")
    grown.add_tokens(["<user>", "<assistant>"])
    model.resize_token_embeddings(len(grown))
    model.save_pretrained("sst2")
    grown.save_pretrained("sst2")
    with pytest.raises(UserError, match=r"sst2: 2 tokens that the base lacks: '<user>', '<assistant>'"):
        experts.run(bench, "sst2")
    base = bench.base.model_copy(update={"vocabulary": "common"})
    experts.run(bench.model_copy(update={"base": base}), "sst2")
    assert torch.equal(
        space.state("sst2", held(space.load_folder(Path("base"), torch.float32)))[EMBEDDING], before
    )
    merges.run(bench, "average", "2")
    words = json.loads(Path("sst2/tokenizer.json").read_text())
    words["model"]["vocab"] |= {"cat": words["model"]["vocab"]["dog"], "dog": words["model"]["vocab"]["cat"]}
    Path("sst2/tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(UserError, match=r"sst2: a tokenizer that differs from the base's: 'cat' is number"):
        experts.run(bench, "sst2")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("dtype", "own"), [(torch.float32, []), (torch.bfloat16, ["<user>"])])
def test_rows_beyond_the_bases_words_are_the_bases(bench, tied, dtype, own):
    """Released models have rows to spare; an expert that was resized to its own tokens has fewer."""
    shutil.copytree("base", "start")
    for name, spare, tokens in (("base", 8, []), ("sst2", 0, own)):
        words = PreTrainedTokenizerFast.from_pretrained("start")
        words.add_tokens(tokens)
        model = AutoModelForCausalLM.from_pretrained(name)
        model.resize_token_embeddings(len(words) + spare)
        if not tied:
            model.config.tie_word_embeddings = False
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight + 1)
        model.to(dtype).save_pretrained(name)
        words.save_pretrained(name)
    base_stage.run(bench)
    common = bench.base.model_copy(update={"vocabulary": "common"})
    experts.run(bench.model_copy(update={"base": common}), "sst2")
    found, given, base = (
        load_file(Path(name, "model.safetensors")) for name in ("results/b/experts/sst2", "sst2", "base")
    )
    assert found.keys() == given.keys() == base.keys()
    embeddings = {EMBEDDING} if tied else {EMBEDDING, "lm_head.weight"}
    for name, theta in given.items():
        expected = (
            torch.cat([theta[: len(theta) - len(own)], base[name][-8:]]) if name in embeddings else theta
        )
        assert torch.equal(found[name], expected) and found[name].dtype == dtype


def test_an_expert_that_computes_differently_is_named(bench, capsys):
    file = Path("sst2/config.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "rms_norm_eps": 1e-5}))
    experts.run(bench, "sst2")
    line = "remerge: rms_norm_eps: not the same in tasks.sst2.expert: merges keep the base's"
    assert line in capsys.readouterr().err


def test_an_expert_of_another_architecture(bench):
    config = Qwen2Config.from_pretrained("sst2", num_hidden_layers=3)
    config.layer_types = ["full_attention"] * 3
    AutoModelForCausalLM.from_config(config).save_pretrained("sst2")
    experts.run(bench, "sst2")
    with pytest.raises(
        UserError, match=r"sst2: tensor model\.layers\.2\..* is in the checkpoint, not in the base"
    ):
        merges.run(bench, "average", "2")
    raw = json.loads(Path("sst2/config.json").read_text())
    Path("sst2/config.json").write_text(json.dumps(raw | {"model_type": "qwen99"}))
    with pytest.raises(UserError, match=r"sst2: cannot be loaded \(.*qwen99"):
        experts.run(bench, "sst2")
    with pytest.raises(UserError, match=r"sst2: transformers does not know its architecture .*qwen99"):
        family("causal_lm", Path("sst2"))


def test_task_vectors_are_of_float32_weights_whatever_the_models_compute_in(bench, monkeypatch):
    exact = Bench(bench)
    monkeypatch.setattr(Workspace, "dtype", torch.bfloat16)
    half = Bench(bench)
    for bench_of in (exact, half):
        bench_of.deltas({"cola": 1, "mnli": 1})
    assert half.parameters[EMBEDDING].dtype == torch.bfloat16
    pair = {"cola": 1, "mnli": 1}
    assert torch.equal(half.deltas(pair)[EMBEDDING], exact.deltas(pair)[EMBEDDING])
    average = find("average")
    for bench_of in (exact, half):
        bench_of.merge(average, average.settings({}), pair)
    for name, merged in half.parameters.items():
        assert torch.equal(merged, exact.parameters[name].to(torch.bfloat16))


@pytest.mark.parametrize("rates", [(0.1,), (0.01, 0.1)])
def test_a_point_that_diverges_loses_and_if_all_do_it_is_said(bench, monkeypatch, rates):
    fit = learn.fit

    def diverging(*given, **named):
        lam = fit(*given, **named)
        learn._must_be_numbers([0.5, float("nan") if named["learning_rate"] in rates else 0.4], lam.lam, 0.1)
        return lam

    monkeypatch.setattr(learn, "fit", diverging)
    if len(rates) == 2:
        with pytest.raises(UserError, match="divmerge: a merge diverges at every point of the grid"):
            selection.run(bench, "divmerge", "subsets")
        return
    selection.run(bench, "divmerge", "subsets")
    record = Selection.read(bench.folder, plan="subsets", variant="divmerge")
    assert record.chosen == {"learning_rate": 0.01} and record.params["learning_rate"] == 0.01
    assert record.diverged == [{"learning_rate": 0.1}] and len(record.grid) == 1
    rates = (0.01,)
    with pytest.raises(UserError, match=r"divmerge, merge of cola\+mnli: coefficients diverge: step 2 of 2"):
        merges.run(bench, "divmerge", "2")


@pytest.mark.parametrize("over", ["none", "ties", "drm_h", "knots", "tsv_m", "star", "dare"])
def test_what_coefficients_are_learned_over_takes_the_place_of_the_experts(bench, over):
    made, tasks = Bench(bench), TASKS[:2]
    expected = prepare(over, made.deltas(dict.fromkeys(tasks, 1)))
    expected = {name: expected[name] for name in expected}
    found = made.task_vectors(over, tasks)
    assert made._experts == {}
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert made.task_vectors(over, tasks) is found
    assert made.task_vectors(over, TASKS) is not found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_experts_in_half_precision_are_held_as_they_are_stored(bench, monkeypatch, dtype):
    """Of models in float16, transformers holds some in float32 that it is told, as T5's second layers."""
    monkeypatch.setattr(Qwen2PreTrainedModel, "_keep_in_fp32_modules", ["up_proj"])
    for model in ("base", *TASKS):
        tensors = load_file(f"{model}/model.safetensors")
        half = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        save_file(half, f"{model}/model.safetensors", {"format": "pt"})
    base_stage.run(bench)
    for task in TASKS:
        experts.run(bench, task)
    made = Bench(bench)
    deltas = made.deltas(dict.fromkeys(TASKS, 1))
    dtypes = {t.dtype for state in [deltas.base, *deltas.states.values()] for t in state.values()}
    assert dtypes == {dtype}
    exact = {name: deltas[name] for name in deltas}
    found = made.task_vectors("none", TASKS)
    assert {vectors.theta.dtype for vectors in found.values()} == {dtype}
    merged, gradients = [], []
    for tau in (found, exact):
        blend, lam = Blend(made.model, made.base_of(tau), tau), torch.tensor([[0.3], [0.8], [-0.2]])
        blend.write(lam)
        merged.append({name: parameter.detach().clone() for name, parameter in blend.parameters.items()})
        batch = made.space.family.collate(made.space.split("cola", "test").examples, made.space.device)
        gradients.append(blend.gradient(lam, partial(squares, made, batch))[1])
    assert all(torch.equal(merged[0][name], merged[1][name]) for name in merged[0])
    assert torch.equal(*gradients)
    # A vote over all tensors needs experts that are still there.
    expected = prepare("ties", Bench(bench).deltas(dict.fromkeys(TASKS, 1)))
    prepared = made.task_vectors("ties", TASKS)
    assert all(torch.equal(prepared[name], expected[name].bfloat16()) for name in expected)
    # Rounded vectors give nearly the gradient of exact ones: an entry is rounded by 2^-9 of itself.
    wide = bench.model_copy(update={"merge": bench.merge.model_copy(update={"delta_dtype": "float32"})})
    exactly = Bench(wide).task_vectors("ties", TASKS)
    assert all(torch.equal(exactly[name], expected[name]) for name in expected)
    rounded, exact = (
        Blend(made.model, made.base_of(tau), tau).gradient(lam, partial(squares, made, batch))[1]
        for tau in (prepared, exactly)
    )
    assert not torch.equal(rounded, exact)
    assert (rounded - exact).norm() < 2**-8 * exact.norm()


def squares(bench, batch):
    """A loss that depends on every logit."""
    return bench.space.family.logits(bench.model, batch).square().sum()


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("existing", [lora], indirect=True)
def test_merges_of_adapters_made_one_after_another_are_those_made_alone(existing, monkeypatch, far):
    """On a GPU, far from the base's files, the module's own tensors are theta_0: a merge puts them back."""
    monkeypatch.setattr(_loaded, "_is_far", lambda theta, other: far)
    forms = {task: miniature.FORMATS[task] for task in TASKS}
    asked = {task: {"prompt": form.prompt, "answers": [*form.answers]} for task, form in forms.items()}
    config = existing(asked, "average")
    signs = [{"cola": 1, "sst2": 1}, {"mnli": 1, "sst2": -1}, {"cola": 1, "mnli": 1, "sst2": 1}]
    one, lam = Bench(config), torch.tensor([[0.4], [-0.3]])
    before = {name: theta.clone() for name, theta in one.parameters.items()}
    methods = [find(name) for name, known in remerge.methods().items() if not known.needs.statistics]
    layers = {"layerwise": {"scale": dict.fromkeys(list(LAYERS)[:2], 0.4)}}
    merged = 0
    for method in methods:
        known = [layers.get(method.name, {}), *({"of": "weights"} for _ in {"of"} & {*method.parameters})]
        for experts_and_signs, params in product(signs, known):
            if method.learned or method.needs.experts not in (None, len(experts_and_signs)):
                continue
            alone = Bench(config)
            for made in (one, alone):
                made.merge(method, method.settings(params), experts_and_signs)
            assert equal(one.parameters, alone.parameters), method.name
            assert not equal(one.parameters, before)
            merged += bool(params)
    assert merged > 6
    for over in ("none", "ties"):
        alone = Bench(config)
        blends = [b.blend(over, TASKS[:2]) for b in (one, alone)]
        batch = one.space.family.collate([Example([5, 6, 7], [8, 9], "cola")], one.space.device)
        found = [
            blend.gradient(lam, partial(squares, b, batch))
            for blend, b in zip(blends, (one, alone), strict=True)
        ]
        assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
        for blend in blends:
            blend.write(lam)
        assert equal(one.parameters, alone.parameters)
    task_arithmetic = find("task_arithmetic")
    write = one.rescaled(task_arithmetic, task_arithmetic.settings({}), signs[0])
    for scale in (0.2, 0.7):
        write(scale)
        alone = Bench(config)
        alone.merge(task_arithmetic, task_arithmetic.settings({"scale": scale}), signs[0])
        for name, theta in alone.parameters.items():
            assert torch.allclose(one.parameters[name], theta, atol=1e-6), name
    one.make_way(())
    assert equal(one.parameters, before)


def equal(found, expected):
    """Whether all tensors are the same."""
    return all(torch.equal(found[name], expected[name]) for name in expected)
