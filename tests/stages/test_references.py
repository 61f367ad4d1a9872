"""What experts say where coefficients are learned, and in divergences, against the experts themselves."""

import pytest
import torch
from peft import LoraConfig
from stages.trained import adapter, full
from transformers import AutoConfig, Qwen2Config

from remerge import learn
from remerge.measures.references import divergences, side_by_side
from remerge.methods import find
from remerge.stages import data, references
from remerge.stages._bench import Bench
from remerge.tau import Weights

TASKS = ["cola", "sst2"]


@pytest.fixture(params=["tied", "untied", "untied, half"])
def model(request, model):
    """The minuscule decoder with a tied or an untied head, or in half precision."""
    config = Qwen2Config(**{**model.config.to_dict(), "tie_word_embeddings": request.param == "tied"})
    torch.manual_seed(0)
    return type(model)(config).eval().to(torch.bfloat16 if "half" in request.param else torch.float32)


def lora(generator, task):
    """An adapter, of the head too where it is untied."""
    tied = AutoConfig.from_pretrained("base").tie_word_embeddings
    targets = ["q_proj", *([] if tied else ["lm_head"])]
    adapter(LoraConfig(r=2, lora_alpha=3, target_modules=targets), "lora_", generator, task)


def lora_of_one_head(generator, task):
    """An adapter, of an untied head in the first task only."""
    if task == TASKS[0]:
        lora(generator, task)
    else:
        adapter(LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj"]), "lora_", generator, task)


@pytest.mark.parametrize("existing", [full, lora, lora_of_one_head], indirect=True)
@pytest.mark.parametrize("how", ["own vectors", "prepared", "rounded"])
def test_in_learning_an_expert_says_what_it_says_alone(existing, monkeypatch, how):
    variant = {"divmerge": {"inputs": 4, "over": "ties" if how == "prepared" else "none"}}
    asked = {"sizes": {"train": 8, "validation": 4, "test": 4}}
    merge = {"variants": [variant], "delta_dtype": "bfloat16" if how == "rounded" else "float32"}
    tasks = {
        "cola": {"prompt": "{sentence} Acceptable?", "answers": ["no", "yes"], **asked},
        "sst2": {"prompt": "{sentence} Sentiment:", "answers": ["negative", "positive"], **asked},
    }
    config = existing(tasks, variant, merge=merge)
    for task in TASKS:
        data.run(config, task)
        references.run(config, task)
    bench, given = Bench(config), []
    monkeypatch.setattr(learn, "fit", lambda f, m, b, t, references, *_, **__: given.extend(references))
    # The module holds another merge when coefficients are learned.
    bench.merge(find("task_arithmetic"), {"scale": 3.0}, dict.fromkeys(TASKS, 1))
    method = find("divmerge")
    bench.fit(method, method.settings(config.params(config.merge.variants[0])), TASKS, 0)
    for task, reference in zip(TASKS, given, strict=True):
        family, expert = bench.space.family, bench.space.load(task, [task])
        batch = family.collate(reference.examples, bench.space.device)
        with torch.no_grad():
            expected = family.logits(expert, batch).log_softmax(dim=-1)
        found = side_by_side(family, bench.model, [(reference, range(4))])
        assert torch.allclose(found, expected, atol=2e-5)
        own = divergences(family, expert, bench.space.reference(task), 3)
        assert own["kl"] == pytest.approx(0, abs=1e-6) and own["n"] == 4
        # Nothing is held for it that is in memory already.
        _, vectors = bench._vectors
        stacked = [tau.theta for tau in vectors.values() if isinstance(tau, Weights)]
        held = {place(t) for t in [*bench.base_of(vectors).values(), *bench.parameters.values(), *stacked]}
        changed = vectors.keys() & {*bench.theta_0.head}
        assert (place(reference.head.weight[0]) in held) == (how == "own vectors" or not changed)


def place(tensor):
    return tensor.untyped_storage().data_ptr()
