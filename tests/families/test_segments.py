"""A pair of texts is read as a tokenizer pairs them, where the model tells their segments apart."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from remerge.families import Head, family

CPU = torch.device("cpu")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sleeps", "a", "dog", "runs"]
SHAPE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXTS = [("the cat sleeps", "a dog"), ("a dog runs", "the cat sleeps a"), ("cat", "dog")]


def saved(folder: Path, config: Any, model: Any, **more: int) -> Any:
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    torch.manual_seed(0)
    whole = model(config(vocab_size=len(WORDS), pad_token_id=0, num_labels=2, **SHAPE, **more)).eval()
    for parameter in whole.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    whole.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return whole, tokenizer


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (BertConfig, BertForSequenceClassification),
        (ElectraConfig, ElectraForSequenceClassification),
    ],
)
def test_pairs_and_single_texts_are_read_as_transformers_reads_them(
    tmp_path: Path, config: Any, model: Any
) -> None:
    whole, tokenizer = saved(tmp_path, config, model)
    classifier = family("classifier", tmp_path)
    ours = classifier.load(tmp_path, torch.float32, CPU)
    classifier.equip(ours, {"t": Head(tmp_path, ["no", "yes"])})
    prompts = [*(f"{a} [SEP] {b}" for a, b in TEXTS), "the cat sleeps"]
    batch = classifier.collate(classifier.examples("t", [(prompt, 0) for prompt in prompts]), CPU)
    expected = [tokenizer(a, b, return_tensors="pt") for a, b in TEXTS]
    expected.append(tokenizer("the cat sleeps", return_tensors="pt"))
    found = classifier.logits(ours, batch)
    for i, inputs in enumerate(expected):
        length = inputs.input_ids.shape[1]
        assert batch.inputs["input_ids"][i, :length].tolist() == inputs.input_ids[0].tolist()
        assert batch.inputs["token_type_ids"][i, :length].tolist() == inputs.token_type_ids[0].tolist()
        assert not batch.inputs["token_type_ids"][i, length:].any()
        assert torch.allclose(found[i], whole(**inputs).logits[0], atol=1e-5)
    # They matter: without them a pair is read otherwise.
    plain = whole(expected[0].input_ids, expected[0].attention_mask).logits[0]
    assert not torch.allclose(found[0], plain, atol=1e-3)


def test_a_model_without_segments_is_given_none(tmp_path: Path) -> None:
    saved(tmp_path, RobertaConfig, RobertaForSequenceClassification, type_vocab_size=1)
    classifier = family("classifier", tmp_path)
    batch = classifier.collate(classifier.examples("t", [("the cat [SEP] a dog", 0)]), CPU)
    assert sorted(batch.inputs) == ["attention_mask", "input_ids"]
