"""The bases of the miniature world: their tokenizers, their batches, and the folders they are kept in."""

from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from torch.nn.functional import pad
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from remerge import miniature
from remerge.miniature.architectures import ARCHITECTURES, Size
from remerge.miniature.pretrain import pretrain
from remerge.miniature.vocabulary import tokenizer as make_tokenizer

LOADERS = {
    "qwen2": [AutoModelForCausalLM, AutoModelForSequenceClassification],
    "llama": [AutoModelForCausalLM, AutoModelForSequenceClassification],
    "t5": [AutoModelForSeq2SeqLM],
    "deberta": [AutoModelForMaskedLM, AutoModelForSequenceClassification],
}
HEADS = {
    "score.weight",
    *(f"{layer}.{kind}" for layer in ("pooler.dense", "classifier") for kind in ("weight", "bias")),
}
NEW = ["llama", "t5", "deberta"]
TINY = {"steps": 2, "hidden": 16, "layers": 1, "heads": 2, "intermediate": 16, "batch_size": 4, "threads": 1}


def assert_whole(folder: Path, architecture: str) -> None:
    """Every class loads the folder, a new head apart, and the tokenizer is the one that was saved."""
    for loader in LOADERS[architecture]:
        _, found = loader.from_pretrained(folder, output_loading_info=True)
        headless = loader is AutoModelForSequenceClassification
        assert set(found["missing_keys"]) <= (HEADS if headless else set())
        assert all(name.startswith("cls.") and headless for name in found["unexpected_keys"])
        assert not found["mismatched_keys"]
    saved, made = AutoTokenizer.from_pretrained(folder), make_tokenizer(architecture)
    assert saved.get_vocab() == made.get_vocab()
    assert saved.special_tokens_map == made.special_tokens_map
    for text in (("who bought it ?",), ("the dog", "a zebra")):
        assert saved(*text).input_ids == made(*text).input_ids


# --- pretraining ---------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", NEW)
def test_pretraining_makes_the_same_folder_twice(architecture, tmp_path):
    for name in ("one", "two"):
        record = pretrain(tmp_path / name, architecture=architecture, **TINY)
        assert record["steps"] == 2 and record["tokens"] > 8
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two and {"config.json", "model.safetensors", "tokenizer.json"} <= set(one)
    assert_whole(tmp_path / "one", architecture)


@pytest.mark.parametrize("architecture", NEW)
def test_pretraining_learns(architecture, tmp_path):
    settings = {**TINY, "hidden": 32, "batch_size": 16, "learning_rate": 2e-2}
    kind, words = ARCHITECTURES[architecture], make_tokenizer(architecture)
    batch = kind.batch(list(islice(kind.stream(1, 0), 64)), words, Random(0))
    losses = []
    for steps in (1, 60):
        pretrain(tmp_path, architecture=architecture, **{**settings, "steps": steps})
        model = LOADERS[architecture][0].from_pretrained(tmp_path)
        losses.append(kind.loss(model, batch).item())
    assert losses[1] < 0.9 * losses[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_no_loss(architecture):
    torch.manual_seed(0)
    kind, words = ARCHITECTURES[architecture], make_tokenizer(architecture)
    model = kind.build(words, Size(16, 1, 2, 16)).eval()
    *ids, weights = kind.batch(list(islice(kind.stream(0, 0), 8)), words, Random(0))
    wider = [*(pad(tensor, (0, 3), value=words.pad_token_id) for tensor in ids), pad(weights, (0, 3))]
    torch.testing.assert_close(kind.loss(model, tuple(wider)), kind.loss(model, (*ids, weights)))


# --- DeBERTa -------------------------------------------------------------------------------------


def test_deberta_is_asked_for_verdicts_and_guesses_twice_and_for_words_where_they_are_masked():
    words = make_tokenizer("deberta")
    documents = list(islice(miniature.corpus(0), 200))
    batch = ARCHITECTURES["deberta"].batch(documents, words, Random(0))
    for document, ids, targets, weights in zip(
        documents, *(tensor.tolist() for tensor in batch), strict=True
    ):
        whole = words(document.text).input_ids
        asked = [place for place, weight in enumerate(weights) if weight > 0]
        assert words.unk_token_id not in whole
        if document.verdict or document.guess:
            last = len(whole) - 2
            assert asked == [0, last] and targets[0] == targets[last] == whole[last]
            assert ids[:last] == whole[:last]  # the first token is only asked
        else:
            assert 0.1 < len(asked) / (len(whole) - 2) < 0.4
            assert [targets[place] for place in asked] == [whole[place] for place in asked]
        masked = [place for place in asked if place > 0]
        assert [place for place, token in enumerate(ids) if token == words.mask_token_id] == masked
        kept = [place for place in range(len(whole)) if place not in masked]
        assert [ids[place] for place in kept] == [whole[place] for place in kept]


# --- the released folders ------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_released_bases_speak_this_world(architecture):
    folder = Path(__file__).parents[2] / f"models/miniature-{architecture}"
    assert_whole(folder, architecture)
    assert (folder / "model.safetensors").stat().st_size < 4_000_000
