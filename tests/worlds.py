"""A small synthetic run: some tasks, every subset, a paper's variants, every record of the contract."""

import base64
import json
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from remerge.variants import parse

TASKS = ["cola", "sst2", "mrpc", "rte"]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("average", {}),
    ("task_arithmetic", {"scale": 0.4}),
    ("multi_slerp", {}),
    ("ties", {"density": 0.2, "scale": 1.0}),
    ("adamerging", {"level": "task"}),
    ("divmerge", {"divergence": "kl", "level": "task"}),
    ("divmerge", {"divergence": "js", "level": "task"}),
    ("adamerging", {"level": "layer"}),
    ("divmerge", {"divergence": "kl", "level": "layer"}),
    ("divmerge", {"divergence": "js", "level": "layer"}),
]
LEARN = ("adamerging", "divmerge")
GRID = {"learning_rate": {"tune": [0.01, 0.03]}, "initial": {"tune": [0.5, "1/T"]}}
LEARNED = {"epochs": 4, "inputs": 200, "learning_rate": 0.003}
QUALITY = [0.72, 0.66, 0.7, 0.62, 0.76, 0.84, 0.86, 0.78, 0.93, 0.95]
BOTH = {"density": {"tune": [0.1, 0.4, 1.0]}, "scale": {"tune": [0.8, 1.0, 1.2, 1.5]}}
DRM: list[tuple[str, dict[str, Any], float]] = [
    ("average", {}, 0.72),
    ("task_arithmetic", {}, 0.66),
    ("ties", {}, 0.74),
    ("dare_ties", {}, 0.73),
    ("drm_h", {}, 0.82),
    ("drm_v", {}, 0.78),
    ("task_arithmetic", {"scale": {"tune": [0.2, 0.3]}}, 0.7),
    *((method, BOTH, 0.85) for method in ("ties", "dare_ties", "drm_h", "drm_v")),
    ("divmerge", {"divergence": "js", "level": "layer"}, 0.95),
    *(("drm_h", {step: False}, 0.7) for step in ("renormalise", "prune", "elect", "disjoint")),
    *((method, {"pruning": "individual"}, 0.8) for method in ("drm_h", "drm_v")),
    *(("drm_h", {"rank": rank}, 0.82 - 0.05 * (1 - rank)) for rank in (0.8, 0.4, 0.1)),
]


def is_tuned(value: Any) -> bool:
    return isinstance(value, dict) and {*value} == {"tune"}


def variant_name(method: str, params: dict[str, Any]) -> str:
    words = [f"{key}={params[key]}" for key in sorted(params) if not is_tuned(params[key])]
    words += ["tuned"] if any(map(is_tuned, params.values())) else []
    return f"{method}@{','.join(words)}" if words else method


def write_json(path: Path, record: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def score(value: float, n: int = 500) -> dict[str, Any]:
    right = round(max(value, 0.0) * n)
    value = right / n
    hard = np.arange(n) + 150 * np.random.default_rng(right).random(n)  # for every model much the same
    return {
        "metric": "accuracy",
        "value": value,
        "restricted": round(min(1.0, value + 0.06) * n) / n,
        "n": n,
        "outcomes": base64.b64encode(np.packbits(hard.argsort().argsort() < right)).decode(),
    }


def weights_of(benchmark: str, tasks: list[str]) -> dict[str, Any]:
    """Signs and places by lot, three in ten entries kept, and joint spaces of twelve vectors."""
    rng = np.random.default_rng(3)
    count = len(tasks) + 1
    values = rng.standard_normal((count - 1, 4000))
    cosines = np.round(np.corrcoef(values), 6)

    def tally(density: float) -> Any:
        signs = np.sign(values) * (rng.random(values.shape) < density)
        pairs = (signs > 0).sum(0) * count + (signs < 0).sum(0)
        return np.bincount(pairs, minlength=count**2).reshape(count, count).tolist()

    spaces = {"unpruned": 1, "original": 0.3, "horizontal": 0.3, "vertical": 0.3}
    backs = {"horizontal_back": 0.95, "vertical_back": 0.9}
    return {
        "benchmark": benchmark,
        "experts": tasks,
        "cosines": cosines.tolist(),
        "matrices": 24,
        "density": 0.3,
        "signs": {space: tally(density) for space, density in {**spaces, **backs}.items()},
        "dropped": {
            "matrix": "layers.2.attention.weight",
            "share": 0.5,
            "plain": rng.random((count - 1, 12)).tolist(),
            "renormalised": (0.45 + 0.1 * rng.random((count - 1, 12))).tolist(),
        },
    }


def course(level: str, subset: tuple[str, ...], place: int) -> dict[str, Any]:
    """The way of a merge's coefficients, of a length of its own for each method; pairs are scored on it."""
    steps = [0, 5, 10, 20 + place]
    ends = [0.3 + 0.1 * len(task) + 0.01 * place for task in subset]
    ways = {t: [0.5, 0.5 + (end - 0.5) / 2, end, end] for t, end in zip(subset, ends, strict=True)}
    kept: dict[str, Any] = {"steps": steps, "coefficients": ways, "scored": [], "anp": []}
    if level == "layer":
        kept["coefficients"] = {task: {"model.layers.0": way, "other": way} for task, way in ways.items()}
    if len(subset) == 2:
        rise = 10 * (len(subset[0]) - 3)
        kept |= {"scored": [steps[0], steps[1], steps[3]], "anp": [60.0, 80.0 + rise, 85.0 + rise]}
    return kept


def make_world(
    results: Path,
    benchmark: str = "demo",
    tasks: list[str] | None = None,
    paper: str | None = "divmerge",
    base: str = "miniature-qwen2",
    lora: dict[str, Any] | None = None,
) -> Path:
    """Write every record of a run into ``results`` and return it."""
    tasks = tasks or TASKS
    rng = np.random.default_rng(7)
    merged = DRM if paper == "drm" else [(*v, quality) for v, quality in zip(VARIANTS, QUALITY, strict=True)]
    names = [variant_name(method, params) for method, params, _ in merged]
    variants = [
        {"name": name, "method": method, "params": params}
        for name, (method, params, _) in zip(names, merged, strict=True)
    ]
    config = {
        "benchmark": benchmark,
        "paper": paper,
        "seed": 0,
        "base": {"family": "causal_lm", "source": base},
        "tasks": {
            task: {"source": "miniature", "prompt": f"{task} : {{sentence}}", "answers": ["no", "yes"]}
            for task in tasks
        },
        "finetune": {"steps": 700, "learning_rate": 1e-3, "lora": lora},
        "merge": {"variants": variants, "defaults": {"adamerging": GRID, "divmerge": GRID}},
        "plans": {"subsets": {"sizes": None}},
        "evaluation": {"watch": 3},
    }
    results.mkdir(parents=True, exist_ok=True)
    (results / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    scores = write_models(results, benchmark, tasks, rng)
    write_data(results, benchmark, tasks)
    write_divergences(results, benchmark, scores, rng)
    write_json(results / "weights.json", weights_of(benchmark, tasks))
    for place, (name, (method, params, quality)) in enumerate(zip(names, merged, strict=True)):
        asked = (GRID if method in LEARN else {}) | params
        tuned = {key: value["tune"] for key, value in asked.items() if is_tuned(value)}
        given = {key: value for key, value in params.items() if not is_tuned(value)}
        known = {"benchmark": benchmark, "variant": name, "method": method, "params": given}
        if tuned:
            chosen = selection(known, "+".join(sorted(tasks[:2])), tuned, quality, rng)
            write_json(results / f"selection/{name}.json", chosen)
        for size in range(2, len(tasks) + 1):
            lines = merges(known, scores, size, quality, place, rng)
            path = results / f"merges/{name}/{size}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return results


def write_models(
    results: Path, benchmark: str, tasks: list[str], rng: np.random.Generator
) -> dict[str, dict[str, Any]]:
    """Write the records of base, experts and multitask; the experts' scores on every task."""
    model = {
        "source": "miniature",
        "path": f"results/{benchmark}/base",
        "fingerprint": "0123456789abcdef",
        "files": {"model.safetensors": "0" * 64},
        "family": "causal_lm",
        "architecture": "Qwen2ForCausalLM",
        "parameters": 548_352,
        "seconds": 212.5,
        "device": "cpu",
    }
    pretraining = {"steps": 2_000, "tokens": 4_500_000, "loss": 1.8125}
    write_json(results / "base.json", {**model, "training": pretraining})
    training = {"steps": 700, "examples": 22_400, "loss": 0.0712}
    own = {task: 0.86 + 0.1 * rng.random() for task in tasks}
    scores: dict[str, dict[str, Any]] = {}
    for name in [*tasks, "base", "multitask"]:
        if name != "base":
            write_json(results / f"experts/{name}.json", {**model, "seconds": 24.1, "training": training})
        level = {"base": 0.3, "multitask": 0.0}.get(name)
        scores[name] = {
            task: score(
                own[task] - level + 0.02 * rng.random()
                if level is not None
                else own[task] * (1 if name == task else 0.3 + 0.4 * rng.random())
            )
            for task in tasks
        }
        write_json(
            results / f"scores/{name}.json",
            {"benchmark": benchmark, "model": name, "scores": scores[name]},
        )
    return {task: scores[task] for task in tasks}


def write_data(results: Path, benchmark: str, tasks: list[str]) -> None:
    read = {"n": 500, "median": 12, "longest": 31, "cut": 0}
    prompts = {task: dict.fromkeys(("train", "validation", "test"), read) for task in tasks}
    write_json(results / "lengths.json", {"benchmark": benchmark, "prompts": prompts})
    split = {"n": 500, "repeated": 0, "seen": 0, "lacking": []}
    for name in tasks:
        found = {"task": name, "dropped": 0, "splits": dict.fromkeys(("train", "validation", "test"), split)}
        write_json(results / f"data/{name}.json", found)
        write_json(
            results / f"references/{name}.json",
            {"task": name, "inputs": 500, "positions": 1000, "seconds": 1.25, "device": "cpu"},
        )


def write_divergences(
    results: Path, benchmark: str, scores: dict[str, dict[str, Any]], rng: np.random.Generator
) -> None:
    """Experts diverge from a task's own the more, the worse they are at the task."""
    for name in scores:
        found = {}
        for task in scores:
            gap = scores[task][task]["value"] - scores[name][task]["value"]
            kl = 0.0 if name == task else abs(6 * gap + 0.5 * rng.standard_normal())
            found[task] = {"kl": kl, "js": float(np.log(2) * (1 - np.exp(-kl / 2))), "n": 500}
        record = {"benchmark": benchmark, "model": name, "divergences": found}
        write_json(results / f"divergences/{name}.json", record)


def selection(
    known: dict[str, Any], subset: str, tuned: dict[str, list[Any]], quality: float, rng: np.random.Generator
) -> dict[str, Any]:
    grid = []
    for values in product(*tuned.values()):
        mean = 100 * quality + 2 * rng.standard_normal()
        point = dict(zip(tuned, values, strict=True))
        grid.append({"params": point, "validation": {subset: mean}, "mean": mean})
    best = max(grid, key=lambda point: point["mean"])
    return {**known, "plan": "subsets", "subsets": [subset], "grid": grid, "chosen": best["params"]}


def merges(
    known: dict[str, Any],
    scores: dict[str, dict[str, Any]],
    size: int,
    quality: float,
    place: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Every merge of a size by a variant, the one at ``place``; scores fall with the size."""
    learned, params = known["method"] in LEARN, known["params"]
    lines: list[dict[str, Any]] = []
    for subset in combinations(sorted(scores), size):
        fall = (1 - quality) * (1 - 0.6 ** (size - 1)) * 2
        merged = {t: score(scores[t][t]["value"] * (1 - fall) + 0.03 * rng.standard_normal()) for t in subset}
        ratio = {t: merged[t]["value"] / scores[t][t]["value"] for t in subset}
        loose = [merged[t]["restricted"] / scores[t][t]["restricted"] for t in subset]
        lines.append(
            {
                **known,
                "case": "+".join(subset),
                "signs": dict.fromkeys(subset, 1),
                "params": params | (LEARNED | {"initial": 1 / size} if learned else {}),
                "tasks": list(subset),
                "size": size,
                "seed": 0,
                "scores": merged,
                "others": {},
                "normalised": ratio,
                "anp": 100 * sum(ratio.values()) / size,
                "anp_restricted": 100 * sum(loose) / size,
                "coefficients": dict.fromkeys(subset, 0.5) if learned else {},
                "trace": [
                    1.0,
                    size * (1.2 - sum(ratio.values()) / size + 0.02 * (7 * len(lines) % 5)),
                ]
                if learned
                else [],
                **({"course": course(params["level"], subset, place)} if learned else {}),
                "seconds": {
                    "merge": 0.004 + 0.01 * rng.random(),
                    "fit": 4.0 * size if learned else 0.0,
                    "evaluate": 0.27 * size,
                },
                "memory": 10**8 * (size + place),
            }
        )
    return lines


def as_variant(results: Path, old: str, new: str) -> None:
    """The merges of one variant under the name of another too, with the settings in that name."""
    named = {key: value for key, value in parse(new)[1].items() if key not in ("seeds", "tuned")}
    for path in sorted((results / "merges" / old).iterdir()):
        lines = [json.loads(line) | {"variant": new} for line in path.read_text().splitlines()]
        lines = [line | {"params": line["params"] | named} for line in lines]
        copy = results / "merges" / new / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text("".join(json.dumps(line) + "\n" for line in lines))


def as_benchmark(results: Path, name: str) -> None:
    """The records of a run under another benchmark's name; without seals, which were of the old one."""
    for path in sorted(results.rglob("*.json*")):
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        records = [json.loads(line) for line in lines]
        for record in records:
            if "benchmark" in record:
                record["benchmark"] = name
                record.pop("seal", None)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
