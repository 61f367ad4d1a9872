"""A merge as the nearest adapter of a rank."""

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

import remerge
from remerge.__main__ import main
from remerge.checkpoints.models import state_of


@pytest.fixture
def models(model, tokenizer, tmp_path, monkeypatch):
    """An untied base and two experts, in which everything but an embedding has changed."""
    monkeypatch.chdir(tmp_path)
    model.config.tie_word_embeddings = False
    for seed, name in enumerate(("base", "one", "two")):
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config(model.config)
        if name != "base":
            made.load_state_dict(AutoModelForCausalLM.from_pretrained("base").state_dict())
            for parameter in made.parameters():
                parameter.data += 0.1 * torch.randn(parameter.shape)
            made.get_input_embeddings().weight.data = (
                AutoModelForCausalLM.from_pretrained("base").get_input_embeddings().weight.data
            )
        made.save_pretrained(name)
        tokenizer.save_pretrained(name)
    return [state_of(AutoModelForCausalLM.from_pretrained(name)) for name in ("base", "one", "two")]


def merge(*options, method="average", experts=("one",), base="base", out="out"):
    named = [word for expert in experts for word in ("--expert", expert)]
    return main(["merge", "--method", method, "--base", base, *named, "--out", out, *options])


def adapted(folder="out", base="base"):
    """The base with the adapter."""
    return state_of(
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).merge_and_unload()
    )


@pytest.mark.parametrize(("method", "experts"), [("average", ["one"]), ("ties", ["one", "two"])])
def test_it_is_the_best_approximation_of_every_matrix(models, capsys, method, experts):
    base, *others = models
    assert merge("--rank", "3", method=method, experts=experts) == 0
    found, merged = adapted(), remerge.merge(method, base, others[: len(experts)])
    inside = kept = whole = 0.0
    for name, theta in merged.items():
        tau, low = (theta - base[name]).double(), (found[name] - base[name]).double()
        whole += tau.square().sum()
        if tau.ndim < 2 or not tau.any():
            assert torch.equal(found[name], base[name])
            continue
        sigma = torch.linalg.svdvals(tau)
        inside += tau.square().sum()
        kept += sigma[:3].square().sum()
        assert torch.linalg.matrix_rank(low, atol=1e-4) == 3
        # Eckart and Young: no matrix of this rank is nearer.
        assert (tau - low).norm() == pytest.approx(float(sigma[3:].norm()), rel=1e-4)
    said = capsys.readouterr().err
    assert f"remerge: rank 3: the adapter keeps {kept / whole:.2%} of what the merge changes" in said
    assert f"{1 - inside / whole:.2%} is outside its layers, in 11 tensors such as model." in said
    assert f"{kept / whole:.2%}" in Path("out/README.md").read_text()
    assert "--rank 3" in Path("out/README.md").read_text()
    config = json.loads(Path("out/adapter_config.json").read_text())
    assert config["task_type"] == "CAUSAL_LM" and AutoPeftModelForCausalLM.from_pretrained("out")


def test_of_full_rank_it_is_the_merge_but_for_what_no_adapter_holds(models):
    base, one, _ = models
    assert merge("--rank", "999", "--dtype", "float32") == 0
    found = adapted()
    assert all(torch.allclose(found[n], one[n], atol=1e-5) for n in base if one[n].ndim == 2)


def test_a_merge_of_adapters_is_cut_to_the_rank(models, capsys):
    """The nearest of its own rank is itself."""
    assert merge("--rank", "2") == 0
    Path("out").rename("small")
    assert merge("--rank", "2", experts=["small"], out="again") == 0
    assert "keeps 100.00% of what the merge changes (by the sum of squares)\n" in capsys.readouterr().err
    first, second = adapted("small"), adapted("again")
    assert all(torch.allclose(first[n], second[n], atol=1e-5) for n in first)
    assert merge("--rank", "1", experts=["small"], out="less") == 0
    assert {len(t) for n, t in load_file("less/adapter_model.safetensors").items() if "lora_A" in n} == {1}


def test_transposed_and_tied_layers(tmp_path, monkeypatch, tokenizer):
    """GPT-2's layers are stored transposed, and its head is its embedding, which no adapter changes."""
    monkeypatch.chdir(tmp_path)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=2, n_positions=8)
    for name in ("base", "one"):
        GPT2LMHeadModel(config).save_pretrained(name)
        tokenizer.save_pretrained(name)
    assert merge("--rank", "8") == 0
    found, one, base = (
        adapted(),
        *(state_of(GPT2LMHeadModel.from_pretrained(name)) for name in ("one", "base")),
    )
    for name in one:
        matrix = one[name].ndim == 2 and "wte" not in name
        assert torch.allclose(found[name], one[name] if matrix else base[name], atol=1e-5), name


def test_what_cannot_be(models, capsys):
    for rank in ("0", "-3"):
        assert merge("--rank", rank) == 2
        assert f"--rank {rank}: give a rank of at least 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        merge("--rank", "3", "--adapter")
    tensors = load_file("base/model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, "one/model.safetensors", {"format": "pt"})
    assert merge("--rank", "3") == 2
    assert "--rank: the merge changes no layer that an adapter can hold" in capsys.readouterr().err
    for name in ("base", "one"):
        Path(name, "config.json").unlink()
    assert merge("--rank", "3") == 2
    assert "--rank: transformers does not know the layers of base" in capsys.readouterr().err
    assert not Path("out").exists()
