"""What jobs need: upper bounds in whole models, from headers and the configuration alone."""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from remerge import config as configuration
from remerge import estimate, headers, largest, needs, size, sources
from remerge.batches import batches
from remerge.config import Config, Variant
from remerge.errors import UserError
from remerge.needs import Needs

ROOT = Path(__file__).parent.parent
REAL = [
    path
    for path in sorted((ROOT / "config").glob("*.yaml"))
    if path.stem != "own" and not path.stem.startswith("demo")
]
MODEL = 494e6 * 4 / 1e6
"""MB of Qwen2.5-0.5B in float32."""


def released(name: str) -> Config:
    return configuration.load(ROOT / f"config/{name}.yaml")


def merging(config: Config, batch: str, gpu: bool = False) -> needs.Need:
    return Needs(config, gpu).batch(batches(config)[batch])


def test_headers_say_how_many_weights_there_are(tmp_path: Path) -> None:
    save_file(
        {"a": torch.zeros(3, 4), "b": torch.zeros(5, dtype=torch.bfloat16)}, tmp_path / "one.safetensors"
    )
    save_file({"c": torch.zeros(2), "n": torch.zeros(7, dtype=torch.int64)}, tmp_path / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert headers.weights(str(tmp_path)) == {"a": (12, "F32"), "b": (5, "BF16"), "c": (2, "F32")}


def test_a_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    with pytest.raises(UserError, match=r"model\.safetensors: incomplete or damaged"):
        headers.weights(str(tmp_path))


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ('{"weight_map": {"a": "../one.safetensors"}}', "is not a safetensors file beside it"),
        ('{"weight_map": {}}', "no weight_map"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_an_index_that_cannot_be_followed(tmp_path: Path, index: str, words: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError, match=words):
        headers.weights(str(tmp_path))


def test_a_size_is_that_of_the_files_then_what_is_said_then_a_billion() -> None:
    demo = released("demo")
    stored = sum(n for n, _ in headers.weights(demo.base.source).values())
    assert size.size_of(demo) == size.Size(stored, size.SINGLE, True)
    elsewhere = demo.base.model_copy(update={"source": "nobody/has-this"})
    said = demo.model_copy(update={"base": elsewhere, "parameters": 12.5})
    assert size.size_of(said) == size.Size(12.5e6, size.SINGLE, True)
    unsaid = said.model_copy(update={"parameters": None})
    assert size.size_of(unsaid) == size.Size(1e9, size.SINGLE, False)
    assert "parameters" in largest.described(unsaid, {})[-1]


def test_of_a_whole_clip_the_vision_tower_counts() -> None:
    config = released("demo-vision")
    tower = {n: of for n, of in headers.weights(config.base.source).items() if n.startswith("vision_model.")}
    assert size.size_of(config).parameters == sum(n for n, _ in tower.values())


def test_merging_takes_the_experts_the_base_and_the_module() -> None:
    config = released("divmerge-glue")
    need = merging(config, "adamerging@level=layer", gpu=True)
    # Seven experts, the base and an expert that is being read in float32, the module in bfloat16.
    models = (7 + 1 + 1 + 0.5) * MODEL
    assert models < need.device < models + 6000
    assert MODEL < need.memory < MODEL + 22000
    alone = merging(config, "adamerging@level=layer")
    assert alone.device == 0 and alone.memory > (7 + 3) * MODEL


def test_statistics_and_prepared_vectors_take_their_own() -> None:
    config = released("divmerge-glue")
    plain, fisher = (merging(config, name).memory for name in ("average", "fisher"))
    assert fisher - plain == pytest.approx(7 * MODEL, abs=1)
    prepared = released("divmerge-glue-prepared")
    over = merging(prepared, "divmerge@divergence=js,level=task,over=ties").memory
    assert over - merging(prepared, "divmerge@divergence=js,level=task").memory == pytest.approx(
        7 * MODEL, abs=1
    )
    rounded = prepared.merge.model_copy(update={"delta_dtype": "bfloat16"})
    half = prepared.model_copy(update={"merge": rounded})
    less = merging(half, "divmerge@divergence=js,level=task,over=ties").memory
    assert over - less == pytest.approx(3.5 * MODEL, abs=1)
    knots = merging(prepared, "knots").memory
    assert knots - merging(prepared, "ties").memory == pytest.approx(7 * MODEL, abs=1)


def test_vectors_that_are_decomposed_of_adapters_stay_factors() -> None:
    """One side of KnOTS's factors is shared by all experts; TIES makes whole tensors."""
    config = released("drm-llama-lora")
    plain = config.merge.variants[-1]
    kept = {over: needs_over(config, plain, over) for over in ("none", "knots", "ties")}
    # Five adapters of rank 16 at four of a layer's twelve matrices of h², and the deltas of one merge.
    of_layers, whole = (16 / 3 * 7505e6) ** (2 / 3) / 64, 7505 * 4 * 4 / 12
    factors = 2 * 16 * 4 * of_layers * 4 / 1e6
    assert kept["knots"] - kept["none"] == pytest.approx((1 + 5) * 5 / 2 * factors + whole, abs=2)
    assert kept["ties"] - kept["none"] == pytest.approx((5 + 1) * whole, abs=2)


def test_of_vectors_to_choose_from_the_largest_count() -> None:
    config = released("drm-llama-lora")
    plain = config.merge.variants[-1]
    asked = {over: needs_over(config, plain, over) for over in ("knots", "ties")}
    assert needs_over(config, plain, {"tune": ["none", "knots", "ties"]}) == max(asked.values())


def needs_over(config: Config, variant: Variant, over: str | dict[str, list[str]]) -> int:
    """MB for coefficients that are learned over some vectors."""
    one = variant.model_copy(update={"params": {**variant.params, "over": over}, "name": "over"})
    merge = config.merge.model_copy(update={"variants": [one]})
    changed = config.model_copy(update={"merge": merge})
    (batch,) = batches(changed).values()
    return Needs(changed, gpu=False).batch(batch).memory


@pytest.mark.parametrize("gpu", [False, True])
def test_a_decomposition_takes_longer_than_an_average(gpu: bool) -> None:
    """Of whole models; of adapters, only their factors are decomposed."""
    config = released("divmerge-glue-prepared")
    needed = {name: merging(config, name, gpu).minutes for name in ("ties", "drm_h")}
    # 120 merges of 3.7 experts on average, as wide as Qwen2.5-0.5B is assumed to be.
    speed = estimate.DECOMPOSED["gpu" if gpu else "cpu"]
    more = 448 * 494e6 * 1381 / speed / 60
    assert needed["drm_h"] - needed["ties"] == pytest.approx(more, rel=0.15)
    adapters = released("drm-llama-lora")
    assert merging(adapters, "knots", gpu).minutes < 1.02 * merging(adapters, "average", gpu).minutes


def stored(
    monkeypatch: pytest.MonkeyPatch, config: Config, base: set[str], experts: Sequence[set[str]]
) -> Config:
    """A configuration of existing experts of Qwen2.5-0.5B in some dtypes."""
    tasks = {
        name: task.model_copy(update={"expert": str(k)})
        for k, (name, task) in enumerate(config.tasks.items())
    }

    def held(source: str, _: str | None) -> dict[str, tuple[int, str]]:
        dtypes = sorted(experts[int(source) % len(experts)] if source.isdigit() else base)
        return {dtype: (494_000_000 // len(dtypes), dtype) for dtype in dtypes}

    for module in (needs, size):
        monkeypatch.setattr(module, "weights", held)
    return config.model_copy(update={"tasks": tasks})


@pytest.mark.parametrize(
    ("base", "experts", "width"),
    [
        ({"BF16"}, [{"BF16"}], 2),
        ({"F32"}, [{"F32"}], 4),
        # Experts in half precision are widened to a base in float32, or in the other half precision.
        ({"F32"}, [{"BF16"}], 4),
        ({"BF16"}, [{"F16"}], 4),
        ({"BF16"}, [{"BF16", "F16"}], 4),
    ],
)
def test_experts_are_held_in_a_dtype_that_holds_the_base_too(
    monkeypatch: pytest.MonkeyPatch, base: set[str], experts: list[set[str]], width: int
) -> None:
    half = stored(monkeypatch, released("divmerge-glue-prepared"), {"BF16"}, [{"BF16"}])
    least = merging(half, "ties").memory
    config = stored(monkeypatch, half, base, experts)
    more = 7 * (width - 2) + size.size_of(config).width - 2  # the experts, and the base
    assert merging(config, "ties").memory - least == pytest.approx(494 * more, abs=1)
    plain, over = "divmerge@divergence=js,level=task", "divmerge@divergence=js,level=task,over=ties"
    added = merging(config, over).memory - merging(config, plain).memory
    assert added == pytest.approx(7 * 494 * width, abs=1)


def test_deltas_of_experts_that_are_not_all_in_one_half_precision_are_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = "divmerge@divergence=js,level=task"
    half = stored(monkeypatch, released("divmerge-glue-prepared"), {"BF16"}, [{"BF16"}])
    need = merging(half, plain).memory
    mixed = stored(monkeypatch, half, {"BF16"}, [{"F32"}, {"BF16"}])
    assert merging(mixed, plain).memory - need == pytest.approx(7 * MODEL / 2, abs=1)
    # Merges without coefficients hold each expert in its own.
    assert (
        merging(mixed, "ties").memory < merging(stored(monkeypatch, half, {"BF16"}, [{"F32"}]), "ties").memory
    )


def test_training_takes_weights_gradients_and_two_moments() -> None:
    config = released("divmerge-glue")
    need = Needs(config, gpu=False).expert("cola")
    assert need.memory > 4 * MODEL and need.device == 0
    smaller = config.finetune.model_copy(update={"device_batch_size": 1})
    small = Needs(config.model_copy(update={"finetune": smaller}), gpu=False).expert("cola")
    assert 4 * MODEL < small.memory < 4 * MODEL + 2500 < need.memory
    assert Needs(config, gpu=False).expert("multitask").minutes > need.minutes


def test_adapters_take_their_factors() -> None:
    config = released("drm-llama-lora")
    base = 7505e6 * 4 / 1e6
    need = merging(config, "divmerge@divergence=js,level=task", gpu=True)
    assert base / 2 < need.device < 1.8 * base
    whole = config.model_copy(update={"finetune": config.finetune.model_copy(update={"lora": None})})
    assert merging(whole, "divmerge@divergence=js,level=task", gpu=True).device > 5 * base


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_job_of_every_configuration_has_needs(path: Path) -> None:
    config = configuration.load(path)
    alone = Needs(config, gpu=False)
    jobs = [of.batch(batch) for batch in batches(config).values() for of in (alone, Needs(config, gpu=True))]
    jobs += [alone.expert(task) for task in config.models[1:]]
    stages = sorted(file.stem for file in (ROOT / "src/remerge/stages").glob("[!_]*.py"))
    jobs += [alone.stage(stage) for stage in stages]
    for need in jobs:
        assert all(isinstance(n, int) and math.isfinite(n) for n in (need.memory, need.device, need.minutes))
        assert need.memory > 1000 and need.minutes > 0
    lines = largest.described(config, {})
    assert [line.partition(":")[0] for line in lines[:3]] == ["experts", "merges", "other stages"]
    assert "GPU" in lines[3]


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from remerge import config, largest;"
        "largest.described(config.load(Path(sys.argv[1])), {});"
        "assert not {'torch', 'transformers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code, ROOT / "config/demo.yaml"], check=True)


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_the_table_is_what_is_computed(path: Path) -> None:
    config = configuration.load(path)
    kinds = largest.most(config, {})
    cells = [f"{most.device / 1000:.1f} ({most.job})" for most in (kinds["experts"], kinds["merges"])]
    gpu = largest.suffices(kinds).split()[3]
    memory = max(most.memory for most in kinds.values()) / 1000
    row = f"| `{path.stem}` | {config.parameters:g} | {' | '.join(cells)} | {gpu} | {memory:.0f} |"
    assert row in (ROOT / "docs/needs.md").read_text().splitlines(), row


def test_the_folder_of_methods_is_read_once_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    known = sources.known
    monkeypatch.setattr(sources, "known", lambda: reads.append(1) or known())
    config = released("demo-full")
    for batch in batches(config).values():
        Needs(config, gpu=False).batch(batch)
    assert len(reads) == 1


def test_answers_that_are_decoded_take_their_keys_and_values() -> None:
    """Of Qwen2.5-0.5B's size: two numbers for each unit of each layer's width, of 64 inputs and answers."""
    config = released("divmerge-glue")
    few, many = (Needs(decoding(config, tokens), gpu=False) for tokens in (100, 1000))
    of_layers = (16 / 3 * 494e6) ** (2 / 3) / 64
    held = 2 * 64 * 900 * of_layers * 4 / 1e6
    states = 500 * 900 * (16 / 3 * 494e6) ** (1 / 3) * 4 / 1e6  # what a reference keeps of each answer
    for stage in ("references", "scores"):
        more = many.stage(stage).memory - few.stage(stage).memory
        assert more == pytest.approx(held + states, rel=0.02)
    # Words of 64 answers at once.
    more = many.stage("divergences").memory - few.stage("divergences").memory
    assert more > 2 * 64 * 900 * 152_000 * 4 / 1e6
    assert many.stage("references").minutes > few.stage("references").minutes


def test_a_choice_takes_a_pass_for_each_answer_and_more_words_at_once() -> None:
    config = released("divmerge-glue")
    chooses = {name: task.model_copy(update={"metric": "choice"}) for name, task in config.tasks.items()}
    plain, choosing = (
        Needs(made, gpu=False) for made in (config, config.model_copy(update={"tasks": chooses}))
    )
    inputs = sum(task.sizes.test for task in config.tasks.values())
    answers = sum(task.sizes.test * len(task.answers) for task in config.tasks.values())
    minutes = [needs.stage("scores").minutes for needs in (plain, choosing)]
    assert minutes[1] / minutes[0] == pytest.approx(answers / inputs, rel=0.1)
    more = choosing.stage("scores").memory - plain.stage("scores").memory
    words = 2 * config.evaluation.batch_size * (32 - 8) * 152_000 * 4 / 1e6
    assert more == pytest.approx(words, rel=0.1)


def decoding(config: Config, tokens: int) -> Config:
    """A benchmark with one task whose answers are free, of at most so many tokens."""
    free = config.tasks["cola"].model_copy(update={"metric": "token_f1", "answer_tokens": tokens})
    return config.model_copy(update={"tasks": {**config.tasks, "cola": free}})
