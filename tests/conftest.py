"""A minuscule decoder, three experts near it, and examples of the miniature tasks."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from worlds import make_world

from remerge import miniature
from remerge.checkpoints.models import state_of
from remerge.families import Example
from remerge.families.causal_lm import CausalLM
from remerge.miniature.vocabulary import tokenizer as make_tokenizer


def pytest_collection_modifyitems(items):
    """The longest files first, so that workers that take one after another end together."""
    first = ("test_workflow.py", "workflow", "gpu")
    items.sort(key=lambda item: [name not in item.path.parts for name in first])


def _seeded():
    """What a test or a fixture draws without a seed is the same in every run, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


of_all = pytest.fixture(_seeded, scope="session", autouse=True)
of_a_file = pytest.fixture(_seeded, scope="module", autouse=True)
of_a_test = pytest.fixture(_seeded, autouse=True)


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """Stages that a test runs in this process switch them off; here they are on again, for the next test."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture
def base(model):
    return {name: tensor.clone() for name, tensor in state_of(model).items()}


@pytest.fixture
def experts(base):
    generator = torch.Generator().manual_seed(1)
    return {
        name: {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in base.items()}
        for name in ("cola", "mnli", "sst2")
    }


@pytest.fixture(scope="session")
def family(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    Qwen2Config().save_pretrained(folder)
    return CausalLM(folder)


@pytest.fixture(scope="session")
def texts():
    def make(task: str, n: int = 24, split: str = "validation") -> list[tuple[str, str]]:
        asked = miniature.FORMATS[task]
        rows = miniature.examples(task, split, n, 0)
        return [(asked.prompt.format(**row), asked.answers[row["label"]]) for row in rows]

    return make


@pytest.fixture(scope="session")
def examples(family, texts):
    def make(task: str, n: int = 24) -> list[Example]:
        return family.examples(task, texts(task, n))

    return make


@pytest.fixture
def folder(tmp_path: Path, model, tokenizer) -> Path:
    """The minuscule decoder as a `save_pretrained` folder."""
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A finished run, to be read only."""
    return make_world(tmp_path_factory.mktemp("results") / "demo")


@pytest.fixture(scope="session")
def glue(tmp_path_factory):
    """A finished run of a benchmark with published numbers, all seven tasks, to be read only."""
    tasks = ["cola", "sst2", "qqp", "qnli", "mnli", "rte", "mrpc"]
    folder = tmp_path_factory.mktemp("results") / "divmerge-glue"
    return make_world(folder, "divmerge-glue", tasks)


@pytest.fixture(scope="session")
def drm(tmp_path_factory):
    """A finished run of a benchmark of the DRM paper, to be read only."""
    tasks = ["paws", "qasc", "quartz", "story_cloze", "wiki_qa", "winogrande"]
    folder = tmp_path_factory.mktemp("results") / "drm-t5-base"
    return make_world(folder, "drm-t5-base", tasks, "drm", "google-t5/t5-base")


@pytest.fixture(scope="session")
def lora(tmp_path_factory):
    """A finished run of the DRM paper's benchmark of adapters, to be read only."""
    folder = tmp_path_factory.mktemp("results") / "drm-llama-lora"
    tasks, base = ["cola", "sst2", "mnli", "qnli", "rte"], "meta-llama/Llama-3.1-8B"
    return make_world(folder, "drm-llama-lora", tasks, "drm", base, {"rank": 16})


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    """A finished run of a benchmark of nobody's, to be read only."""
    return make_world(tmp_path_factory.mktemp("results") / "own", "own", paper=None)


@pytest.fixture
def expert_folders(folder, model, base, tmp_path):
    """Three experts' tensors, and their folders beside the base's."""
    generator = torch.Generator().manual_seed(1)
    made = {}
    for task in ("cola", "mnli", "sst2"):
        made[task] = {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in base.items()}
        model.load_state_dict(made[task], strict=False)
        model.save_pretrained(tmp_path / task)
    return made
