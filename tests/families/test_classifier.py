"""Heads of tasks beside one body: against transformers' own models, and through the disk."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    Gemma3Config,
    Gemma3ForSequenceClassification,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    XLMConfig,
    XLMForSequenceClassification,
    XmodConfig,
)

from remerge.checkpoints.adapters import add_adapter, read_adapter
from remerge.checkpoints.models import held, state_of
from remerge.config import Finetune
from remerge.errors import UserError
from remerge.families import Head, classifier, family
from remerge.finetune import finetune
from remerge.miniature.vocabulary import tokenizer as make_tokenizer

CPU = torch.device("cpu")
ANSWERS = {"cola": ["no", "yes"], "mnli": ["entailment", "neutral", "contradiction"]}
PAIRS = [("the cat sleeps", 1), ("every dog sees a bird near the river", 0), ("a man runs", 1)]


@pytest.fixture(scope="module", params=["llama", "t5", "deberta"])
def world(request, bases, tmp_path_factory):
    """A family, its base, and an expert for each task as transformers itself saves one."""
    base, folders = bases[request.param], {}
    found = family("classifier", base)
    for seed, (task, answers) in enumerate(ANSWERS.items()):
        torch.manual_seed(seed + 1)
        expert = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(answers))
        for parameter in expert.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
        expert.config.pad_token_id = found.fill
        folders[task] = tmp_path_factory.mktemp(f"{request.param}-{task}")
        expert.save_pretrained(folders[task])
        found.processor.save_pretrained(folders[task])
    return found, base, folders


SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.1,
    "pad_token_id": 0,
}


@pytest.mark.parametrize("name", classifier.UNMASKED)
def test_a_model_that_reads_its_batch_s_padding_is_refused(name, tmp_path):
    """Its scores would depend on the other texts of a batch."""
    more = {"vocab_size": 40} | ({"embedding_size": 16, "head_ratio": 1} if name == "convbert" else {})
    config = AutoConfig.for_model(name, **SMALL, **more)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    for parameter in model.parameters():
        # Checkpoints of other libraries do not begin with zeros as the embedding of padding.
        parameter.data += 0.1 * torch.randn_like(parameter)
    ids = torch.randint(3, 40, (1, 7))
    masks = [torch.ones_like(ids), torch.tensor([[1] * 7 + [0] * 5])]
    inputs = [ids, torch.cat([ids, torch.zeros(1, 5, dtype=ids.dtype)], dim=1)]
    with torch.no_grad():
        told = [{} if name == "fnet" else {"attention_mask": mask} for mask in masks]
        alone, padded = (model(x, **more).logits for x, more in zip(inputs, told, strict=True))
    assert (alone - padded).abs().max() > 1e-4
    config.save_pretrained(tmp_path)
    make_tokenizer("deberta").save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"a {name} reads the padding of its batch"):
        family("classifier", tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (T5Config(), "no decoder_start_token_id: set the token that its decoder begins with"),
        (
            XmodConfig(languages=["de_DE", "en_XX"]),
            "default_language is None: set the language of your texts, one of de_DE, en_XX",
        ),
    ],
)
def test_a_model_that_cannot_begin_is_refused(config, words, tmp_path):
    config.save_pretrained(tmp_path)
    make_tokenizer("t5").save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"config\.json: {words}"):
        family("classifier", tmp_path)


def heads(folders):
    return {task: Head(folder, ANSWERS[task]) for task, folder in folders.items()}


def test_a_mixed_batch_is_read_by_each_row_s_own_head(world):
    classifier, _, folders = world
    model = classifier.load(folders["cola"], torch.float32, CPU)
    classifier.equip(model, heads(folders))
    rows = [*classifier.examples("cola", PAIRS), *classifier.examples("mnli", PAIRS)]
    order = [3, 0, 4, 1, 2, 5]
    batch = classifier.collate([rows[i] for i in order], CPU)
    found = classifier.logits(model, batch)
    assert found.shape == (6, 3)
    whole = AutoModelForSequenceClassification.from_pretrained(folders["cola"]).eval()
    for task, folder in folders.items():
        # The body of one expert under the head of another, assembled by transformers.
        other = load_file(folder / "model.safetensors")
        own = {n: t for n, t in other.items() if n.split(".")[0] in classifier.heads(whole)}
        judged = AutoModelForSequenceClassification.from_pretrained(
            folders["cola"], num_labels=len(ANSWERS[task]), ignore_mismatched_sizes=True
        ).eval()
        judged.load_state_dict(own, strict=False)
        judged.config.pad_token_id = classifier.fill
        for at, i in enumerate(order):
            if rows[i].task == task:
                with torch.no_grad():
                    expected = judged(torch.tensor([rows[i].prompt])).logits[0]
                width = len(ANSWERS[task])
                assert torch.allclose(found[at, :width], expected, atol=1e-5)
                assert (found[at, width:].softmax(-1) <= 1).all()
                assert found[at].softmax(-1)[width:].sum() == 0


def test_heads_are_nobodys_parameters_to_merge(world):
    classifier, base, folders = world
    model = classifier.load(base, torch.float32, CPU)
    bare = set(state_of(model))
    classifier.equip(model, heads(folders))
    assert set(state_of(model)) == bare
    assert not any(name.split(".")[0] in classifier.heads(model) for name in bare)


def test_a_fresh_head_is_transformers_own_and_several_are_kept_beside(world, tmp_path):
    classifier, base, _ = world
    single = classifier.load(base, torch.float32, CPU)
    classifier.equip(single, {"mnli": Head(None, ANSWERS["mnli"])})
    classifier.save(single, tmp_path / "single")
    loaded, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "single", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert loaded.config.id2label == dict(enumerate(ANSWERS["mnli"]))
    both = classifier.load(base, torch.float32, CPU)
    classifier.equip(both, {task: Head(None, answers) for task, answers in ANSWERS.items()})
    classifier.save(both, tmp_path / "both")
    again = classifier.load(tmp_path / "both", torch.float32, CPU)
    classifier.equip(again, {task: Head(tmp_path / "both", answers) for task, answers in ANSWERS.items()})
    batch = classifier.collate(
        [*classifier.examples("cola", PAIRS), *classifier.examples("mnli", PAIRS)], CPU
    )
    assert torch.equal(classifier.logits(both.eval(), batch), classifier.logits(again, batch))


@pytest.mark.parametrize("lora", [None, {"targets": ["query_proj"]}])
def test_tasks_may_have_the_names_of_attributes_of_a_module(bases, tmp_path, lora):
    classifier = family("classifier", bases["deberta"])
    heads = {"type": Head(None, ["a", "b"]), "values": Head(None, ["c", "d", "e"])}
    model = classifier.load(bases["deberta"], torch.float32, CPU)
    classifier.equip(model, heads)
    examples = [e for task in heads for e in classifier.examples(task, PAIRS)]
    recipe = Finetune(steps=2, batch_size=4, evaluations=2, patience=2, lora=lora)
    trained, _ = finetune(classifier, model, examples, examples, recipe, 0, tmp_path / "kept")
    whole = trained if lora is None else trained.get_base_model()
    classifier.save(trained, tmp_path / "saved")
    again = classifier.load(bases["deberta"], torch.float32, CPU)
    classifier.equip(again, {task: Head(tmp_path / "saved", head.answers) for task, head in heads.items()})
    ours = {n: t for n, t in again.state_dict().items() if n.startswith(("classifier.", "pooler."))}
    theirs = {n.replace("modules_to_save.default.", ""): t for n, t in whole.state_dict().items()}
    assert {n.split(".")[2] for n in ours} == {*heads}
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


@pytest.mark.parametrize("tasks", [["cola"], [*ANSWERS]])
def test_an_adapter_on_layers_that_heads_have_too_is_read_again(bases, tmp_path, tasks):
    """A pooler's layer is called dense, as those of the body are; heads are trained in full."""
    classifier = family("classifier", bases["deberta"])
    model = classifier.load(bases["deberta"], torch.float32, CPU)
    classifier.equip(model, {task: Head(None, ANSWERS[task]) for task in tasks})
    examples = [e for task in tasks for e in classifier.examples(task, PAIRS)]
    recipe = Finetune(steps=4, batch_size=4, learning_rate=1e-2, lora={"targets": ["dense"]})
    trained, _ = finetune(classifier, model, examples, [], recipe, 0, tmp_path / "kept")
    classifier.save(trained, tmp_path / "saved")
    again = classifier.load(bases["deberta"], torch.float32, CPU)
    add_adapter(again, read_adapter(tmp_path / "saved", held(again)).values)
    classifier.equip(again, {task: Head(tmp_path / "saved", ANSWERS[task]) for task in tasks})
    batch = classifier.collate(examples, CPU)
    with torch.no_grad():
        torch.testing.assert_close(
            classifier.logits(again, batch), classifier.logits(trained.get_base_model(), batch)
        )


def test_wrong_heads(world, tmp_path):
    classifier, base, folders = world
    model = classifier.load(base, torch.float32, CPU)
    with pytest.raises(UserError, match=r"no head for cola"):
        classifier.equip(model, {"cola": Head(base, ANSWERS["cola"])})
    with pytest.raises(UserError, match=r"has 3 classes, and tasks\.mnli\.answers names 2"):
        classifier.equip(model, {"mnli": Head(folders["mnli"], ["a", "b"])})
    tensors = load_file(folders["cola"] / "model.safetensors")
    names = [n for n in tensors if n.split(".")[0] in classifier.heads(model) and tensors[n].ndim == 2]
    wide = {n: t.repeat(1, 2) if n in names else t for n, t in tensors.items()}
    (tmp_path / "heads").mkdir()
    save_file({n: t.contiguous() for n, t in wide.items()}, tmp_path / "heads/cola.safetensors")
    with pytest.raises(UserError, match="give the head of an expert of this base"):
        classifier.equip(model, {"cola": Head(tmp_path, ANSWERS["cola"])})


def test_positions_behind_the_padding_tokens_are_counted_from_there(tmp_path):
    """A RoBERTa with embeddings for 24 positions reads 23 tokens if its padding token is number 0."""
    words = make_tokenizer("llama")
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    marks = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, "max_position_embeddings": 24}
    RobertaForMaskedLM(RobertaConfig(**shape, **marks)).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    classifier = family("classifier", tmp_path)
    model = classifier.load(tmp_path, torch.float32, CPU)
    classifier.equip(model, {"cola": Head(None, ANSWERS["cola"])})
    examples = classifier.examples("cola", [("the cat sleeps near a house and " * 6, 1), ("a dog", 0)])
    assert [len(e.prompt) for e in examples] == [23, 2]
    assert classifier.logits(model, classifier.collate(examples, CPU)).isfinite().all()


def test_a_prompt_without_tokens_is_refused(bases):
    """Of padding alone, a decoder would judge any position."""
    with pytest.raises(UserError, match="prompt '': no token for the model to read: write words into the"):
        family("classifier", bases["llama"]).examples("cola", [*PAIRS, ("", 1)])


def test_an_end_token_inside_a_prompt_is_refused_where_the_head_reads_at_it(bases):
    classifier = family("classifier", bases["t5"])
    with pytest.raises(UserError, match="prompt 'a <eos> cat <eos>': more of <eos> than in other prompts"):
        classifier.examples("cola", [*PAIRS, ("a <eos> cat", 1)])
    # Alike in one task, as where a separator divides a pair, but not in another.
    alike = classifier.examples("cola", [("a <eos> cat", 1), ("a <eos> dog", 1)])
    with pytest.raises(UserError, match="leave it out"):
        classifier.collate([*alike, *classifier.examples("mnli", PAIRS)], CPU)
    assert family("classifier", bases["llama"]).examples("cola", [*PAIRS, ("a <eos> cat", 1)])


def test_a_tokenizer_that_ends_no_prompt_is_refused_where_the_head_reads_at_the_end(bases, tmp_path):
    shutil.copytree(bases["t5"], tmp_path, dirs_exist_ok=True)
    make_tokenizer("llama").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="does not end a prompt with token 1, the eos_token_id of config"):
        family("classifier", tmp_path).examples("cola", PAIRS)


def test_a_model_whose_head_is_not_known_is_refused(tmp_path):
    words = make_tokenizer("llama")
    shape = {"emb_dim": 16, "n_layers": 1, "n_heads": 2, "n_words": len(words), "pad_index": 0}
    XLMForSequenceClassification(XLMConfig(**shape)).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="XLMForSequenceClassification has no head of a known name"):
        family("classifier", tmp_path).load(tmp_path, torch.float32, CPU)


@pytest.mark.parametrize("pad", [None, 3])
def test_the_last_token_is_found_whatever_the_text_s_own_configuration_pads_with(tmp_path, pad):
    words = make_tokenizer("llama")
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**shape, "vocab_size": len(words), "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": pad}
    seen = {**shape, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=text, vision_config=seen, mm_tokens_per_image=1)
    Gemma3ForSequenceClassification(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    classifier = family("classifier", tmp_path)
    model = classifier.load(tmp_path, torch.float32, CPU)
    classifier.equip(model, {"cola": Head(tmp_path, ANSWERS["cola"])})
    rows = classifier.examples("cola", PAIRS)
    alone = [classifier.logits(model, classifier.collate([row], CPU)) for row in rows]
    together = classifier.logits(model, classifier.collate(rows, CPU))
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
