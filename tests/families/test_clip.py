"""A minuscule CLIP: heads from its text tower, mixed tasks, gradients, folders, and wrong input."""

import json
import shutil
from functools import cache
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoImageProcessor, CLIPImageProcessorPil, CLIPModel, CLIPVisionModel

from remerge.checkpoints.models import state_of
from remerge.config import Finetune
from remerge.errors import UserError
from remerge.families import Family, Head, clip, family, images
from remerge.families.clip import Clip
from remerge.finetune import finetune
from remerge.measures.joint import right
from remerge.measures.score import accuracy
from remerge.miniature.clip import tokenizer

CPU = torch.device("cpu")
NAMES = ("zero", "one", "two", "three", "four")
HEADS = {
    "digit": Head(None, NAMES, ("the digit {answer}", "a picture of the digit {answer}")),
    "parity": Head(None, ("even", "odd"), ("the {answer} digit",)),
    "plain": Head(None, ("round one", "bent one", "straight one")),
}


def picture(seed: int, size: tuple[int, int] = (8, 8), kind: str = "png") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def base(bases):
    """A whole CLIP whose two towers are of different widths."""
    return bases["clip"]


@pytest.fixture(scope="module")
def made(base):
    return Clip(base)


@pytest.fixture
def model(base, made):
    model = made.load(base, torch.float32, CPU)
    made.equip(model, HEADS)
    return model


@pytest.fixture
def copy(base, tmp_path):
    return shutil.copytree(base, tmp_path / "copy")


@pytest.fixture(scope="module")
def mixed(made):
    """Images of three tasks with heads of three widths, one after the other."""
    tasks = ["digit", "parity", "plain", "parity", "digit", "plain", "digit"]
    return [made.examples(t, [(picture(i), i % 2)])[0] for i, t in enumerate(tasks)]


@cache
def whole_clip(base):
    """The two towers of transformers' own, and what prepares their inputs."""
    return CLIPModel.from_pretrained(base), tokenizer(), CLIPImageProcessorPil.from_pretrained(base)


@cache
def by_hand(base, image: bytes, head: Head) -> torch.Tensor:
    """The logits of one image from a `CLIPModel`'s own features."""
    whole, words, processor = whole_clip(base)
    seen = processor(Image.open(BytesIO(image)).convert("RGB"), return_tensors="pt").pixel_values
    with torch.no_grad():
        logits = []
        features = whole.get_image_features(seen).pooler_output[0]
        for answer in head.answers:
            texts = [c.format(answer=answer) for c in head.captions or ["a photo of a {answer}."]]
            told = [whole.get_text_features(**words(t, return_tensors="pt")).pooler_output[0] for t in texts]
            mean = sum(t / t.norm() for t in told) / len(told)
            logits.append(whole.logit_scale.exp() * (features / features.norm()) @ (mean / mean.norm()))
    return torch.stack(logits)


# --- heads ---------------------------------------------------------------------------------------


def test_is_a_family(base):
    made: Family = family("clip", base)
    assert isinstance(made, Clip) and made.processor.crop_size.height == 8


def test_logits_are_those_of_the_whole_clip(base, made, model):
    """With one caption a class, `CLIPModel` computes them itself."""
    examples = made.examples("parity", [(picture(i), 0) for i in range(5)])
    batch = made.collate(examples, CPU)
    words = tokenizer()(["the even digit", "the odd digit"], return_tensors="pt")
    with torch.no_grad():
        ours = made.logits(model, batch)
        theirs = CLIPModel.from_pretrained(base)(**words, **batch.inputs).logits_per_image
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs)


def test_each_row_is_read_by_its_own_head(base, made, model, mixed):
    batch = made.collate(mixed, CPU)
    with torch.no_grad():
        logits = made.logits(model, batch)
    assert logits.shape == (7, 5)
    for row, example in zip(logits, mixed, strict=True):
        head = HEADS[example.task]
        width = len(head.answers)
        torch.testing.assert_close(row[:width], by_hand(base, example.prompt, head))
        assert (row.softmax(0)[width:] == 0).all() and row.log_softmax(0).isfinite().all()


def test_batches_are_as_the_interface_says(made, mixed):
    batch = made.collate(mixed, CPU)
    assert batch.inputs["pixel_values"].shape == (7, 3, 8, 8)
    assert batch.targets.tolist() == [e.answer[0] for e in mixed] == [i % 2 for i in range(7)]
    assert batch.example.tolist() == batch.positions[0].tolist() == list(range(7))
    assert batch.tasks == [e.task for e in mixed] and batch.size == 7
    assert made.labels(mixed[0].prompt, NAMES) is None


def test_greedy_answers_with_the_most_likely_class(made, model, mixed, monkeypatch):
    monkeypatch.setattr("remerge.families.ANSWERS_AT_ONCE", 3)
    best = made.logits(model, made.collate(mixed, CPU)).argmax(-1)
    assert made.greedy(model, mixed) == [[i] for i in best.tolist()]


def test_a_caption_longer_than_the_text_tower_reads_is_named(base, made):
    model = made.load(base, torch.float32, CPU)
    long = Head(None, NAMES, ("the digit " * 6 + "{answer}",))
    with pytest.raises(UserError, match=r"caption 'the digit .*': the text tower reads 10 tokens: give a"):
        made.equip(model, {"digit": long})


def test_answers_that_the_text_tower_cannot_tell_apart_are_refused(base, made):
    """Their logits would be equal, and accuracy that of a guess."""
    model = made.load(base, torch.float32, CPU)
    with pytest.raises(UserError, match=r"caption 'the digit dog': .* tells it from that of cat: write"):
        made.equip(model, {"digit": Head(None, ("two", "cat", "dog"), ("the digit {answer}",))})
    made.equip(model, {"digit": Head(None, ("two", "one"), ("the digit", "the digit {answer}"))})


def test_captions_are_padded_behind_their_words_whatever_the_tokenizer_says(copy):
    """Before them, words would stand at other positions."""
    file = copy / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "padding_side": "left"}))
    left = family("clip", copy)
    heads = {"longer": Head(None, ("two", "two four six"), ("the digit {answer}",))}
    found = left.load(copy, torch.float32, CPU)
    left.equip(found, heads)
    seen = left.examples("longer", [(picture(0), 0)])
    logits = left.logits(found, left.collate(seen, CPU))[0]
    assert torch.allclose(logits, by_hand(copy, picture(0), heads["longer"]), atol=1e-4)


def test_captions_are_read_once(base, monkeypatch):
    """A second model's heads, and another task's of the same captions, need no text tower."""
    made, read = Clip(base), []
    monkeypatch.setattr(clip, "AT_ONCE", 2)
    monkeypatch.setattr(made, "_directions", lambda *a, f=made._directions: read.append(a[1:]) or f(*a))
    for _ in range(2):
        model = made.load(base, torch.float32, CPU)
        made.equip(model, {**HEADS, "again": HEADS["parity"]})
    assert sorted(read) == sorted((tuple(h.answers), tuple(h.captions)) for h in HEADS.values())
    cosines = model.heads.heads["digit"].directions @ model.heads.heads["digit"].directions.T
    assert cosines.shape == (5, 5)
    torch.testing.assert_close(cosines.diagonal(), torch.ones(5))


def test_images_of_any_size_are_cut_to_the_models(made):
    wide = made.examples("parity", [(picture(0, (8, 20), "jpeg"), 1), (picture(1, (40, 3)), 1)])
    assert made.collate(wide, CPU).inputs["pixel_values"].shape == (2, 3, 8, 8)


def test_a_photo_is_turned_as_its_camera_says(made):
    """As `datasets` decodes it."""
    file, turned, exif = BytesIO(), BytesIO(), Image.Exif()
    exif[0x0112] = 6
    shown = Image.open(BytesIO(picture(0)))
    shown.save(file, "png", exif=exif)
    shown.transpose(Image.Transpose.ROTATE_270).save(turned, "png")
    pixels = made.collate(made.examples("digit", [(file.getvalue(), 0), (turned.getvalue(), 0)]), CPU)
    assert torch.equal(*pixels.inputs["pixel_values"])


def test_images_of_16_bits_per_pixel_are_refused(made):
    """Pillow would make white of nearly every pixel."""
    file = BytesIO()
    Image.fromarray(np.full((8, 8), 8000, dtype=np.uint16)).save(file, "png")
    with refused("an image cannot be decoded .its pixels are of type I;16, not of 8 bits per colour"):
        made.collate(made.examples("digit", [(file.getvalue(), 0)]), CPU)


@pytest.mark.parametrize("limit", [0, 2000, 2**31])
def test_images_are_kept_up_to_a_limit(base, mixed, monkeypatch, limit):
    made, seen, plain = Clip(base), [], images.preprocess
    monkeypatch.setattr(images, "REMEMBERED", limit)
    monkeypatch.setattr(images, "preprocess", lambda some, p: seen.append(len(some)) or plain(some, p))
    first = made.collate(mixed[:4], CPU).inputs["pixel_values"]
    whole = made.collate([*mixed, mixed[0]], CPU).inputs["pixel_values"]
    assert torch.equal(whole[:4], first) and torch.equal(whole[7], whole[0])
    assert seen == ([4, 7] if limit == 0 else [4, 3])
    assert made._bytes == {0: 0, 2000: 4 * 768, 2**31: 7 * 768}[limit]


# --- the labels of several tasks -----------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_among_labels_of_all_tasks_the_texts_decide(base, made, model, batch_size):
    """Against a whole CLIP that is given every task's captions: right is any class of the same label."""
    heads = {**HEADS, "light": Head(None, ("two", "five", "zero"), ("the light digit {answer}",))}
    made.equip(model, heads)
    labels = {task: heads[task].answers for task in ("digit", "parity", "light")}
    for task, answers in labels.items():
        shown = [picture(i) for i in range(24)]
        examples = [made.examples(task, [(s, i % len(answers))])[0] for i, s in enumerate(shown)]
        joint = own = 0
        for i, image in enumerate(shown):
            logits = {t: by_hand(base, image, heads[t]) for t in labels}
            best = max((float(row[c]), labels[t][c]) for t, row in logits.items() for c in range(len(row)))
            joint += best[1] == answers[i % len(answers)]
            own += int(logits[task].argmax()) == i % len(answers)
        found = accuracy(made, model, examples, None, batch_size, labels)
        assert (found["joint"], found["value"]) == (joint / 24, own / 24)
        assert "joint" not in accuracy(made, model, examples, None, batch_size)


def test_labels_of_equal_text_are_one():
    labels = {"a": ("zero", "one"), "b": ("one", "two")}
    logits = torch.tensor([[0.0, 1, 5, 2], [0, 5, 1, 2], [9, 1, 2, 3], [0, 1, 2, 9]])
    assert right(labels, "a", logits, torch.tensor([1, 1, 0, 0])).tolist() == [True, True, True, False]
    assert right(labels, "b", logits, torch.tensor([0, 0, 0, 1])).tolist() == [True, True, False, True]


# --- parameters ----------------------------------------------------------------------------------


def test_only_the_vision_tower_has_parameters(base, made, model):
    names = {name for name, _ in CLIPVisionModel.from_pretrained(base).named_parameters()}
    assert set(state_of(model)) == set(model.state_dict()) == names
    assert not model.training and made.heads(model) == []


def test_gradients_reach_the_vision_tower(made, model, mixed):
    batch = made.collate(mixed, CPU)
    cross_entropy(made.logits(model, batch), batch.targets).backward()
    # A bias of the keys adds the same to all that a softmax compares.
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(name.endswith("k_proj.bias") for name in silent)
    assert not any(buffer.requires_grad for buffer in model.buffers())


def test_a_training_can_be_watched(made, model, mixed, tmp_path):
    recipe = Finetune(steps=2, batch_size=2, evaluations=2)
    _, told = finetune(made, model, mixed, mixed, recipe, 0, tmp_path / "kept")
    assert told["steps"] == 2


def test_a_training_resumes_from_its_weights_and_keeps_the_best(base, made, model, mixed, tmp_path):
    """`save_pretrained` gives them other names than they have in the model."""

    def train(folder):
        torch.manual_seed(0)
        fresh = made.load(base, torch.float32, CPU)
        made.equip(fresh, HEADS)
        return state_of(finetune(made, fresh, mixed, mixed, recipe, 0, folder)[0])

    recipe = Finetune(steps=6, batch_size=2, evaluations=3, patience=1, learning_rate=1.0)
    whole = train(tmp_path / "whole")
    (best,) = (tmp_path / "whole").glob("checkpoint-*/model.safetensors")
    stored = load_file(best)
    assert all(torch.equal(stored[name], theta) for name, theta in whole.items())
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    resumed = train(tmp_path / "resumed")
    assert all(torch.equal(resumed[name], theta) for name, theta in whole.items())


def test_lower_precision_is_answered_in_float32(base, made, mixed):
    model = made.load(base, torch.bfloat16, CPU)
    made.equip(model, HEADS)
    exact = made.load(base, torch.float32, CPU)
    made.equip(exact, HEADS)
    batch = made.collate(mixed, CPU)
    logits = made.logits(model, batch)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, made.logits(exact, batch), atol=2.0, rtol=0.1)


# --- folders -------------------------------------------------------------------------------------


def test_a_saved_expert_loads_again(base, made, model, mixed, tmp_path):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    made.save(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert len(stored) == len(state_of(model)) and not any("head" in name for name in stored)

    again = made.load(tmp_path, torch.float32, CPU)
    made.equip(again, HEADS)
    batch = made.collate(mixed, CPU)
    assert torch.equal(made.logits(again, batch), made.logits(model, batch))
    theirs = CLIPVisionModel.from_pretrained(tmp_path)
    assert all(torch.equal(p, state_of(model)[name]) for name, p in theirs.named_parameters())
    assert AutoImageProcessor.from_pretrained(tmp_path).crop_size == made.processor.crop_size


@pytest.mark.parametrize("prefix", ["", "vision_model."])
def test_experts_of_either_naming_load(base, made, model, copy, prefix):
    """Published vision towers bear the prefix, whatever this transformers calls its own parameters."""
    save_file(
        {prefix + n: t for n, t in state_of(model).items()}, copy / "model.safetensors", {"format": "pt"}
    )
    config = {**json.loads((base / "config.json").read_text())["vision_config"]}
    (copy / "config.json").write_text(json.dumps({**config, "architectures": ["CLIPVisionModel"]}))
    loaded = state_of(made.load(copy, torch.float32, CPU))
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in state_of(model).items())


# --- wrong input ---------------------------------------------------------------------------------


def rewrite(folder, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def refused(what: str):
    return pytest.raises(UserError, match=rf"(?s)\A(?=.*{what})[^\n]*\Z")


def test_bases_that_are_no_clip_are_refused(copy, tmp_path):
    with refused("not a CLIP"):
        Clip(tmp_path / "nothing")
    rewrite(copy, model_type="qwen2")
    with refused("not a CLIP but a qwen2"):
        Clip(copy)


def test_a_vision_tower_alone_is_no_base(made, model, tmp_path):
    made.save(model, tmp_path)
    with refused("no text tower"):
        Clip(tmp_path)


@pytest.mark.parametrize(
    ("file", "what"),
    [("tokenizer.json", "no tokenizer"), ("preprocessor_config.json", "no image processor")],
)
def test_bases_that_lack_a_file_are_refused(copy, file, what):
    (copy / file).unlink()
    with refused(what):
        Clip(copy)


@pytest.mark.parametrize("content", ["", "{}", '{"version": "1.0", "added_tokens": [], "model": {}}'])
def test_a_broken_tokenizer_is_refused(copy, content):
    (copy / "tokenizer.json").write_text(content)
    with refused("no tokenizer"):
        Clip(copy)


def test_weights_that_are_not_whole_are_refused(copy, made):
    stored = load_file(copy / "model.safetensors")
    part = {
        n: t
        for n, t in stored.items()
        if n not in ("text_projection.weight", "vision_model.pre_layrnorm.bias")
    }
    save_file(part, copy / "model.safetensors", {"format": "pt"})
    with refused("pre_layrnorm.bias is missing"):
        made.load(copy, torch.float32, CPU)
    save_file({**part, "vision_model.pre_layrnorm.bias": torch.zeros(16)}, copy / "model.safetensors")
    cut = Clip(copy)
    model = cut.load(copy, torch.float32, CPU)
    with refused("text_projection.weight is missing"):
        cut.equip(model, HEADS)


def test_models_of_another_image_size_are_refused(copy, made):
    config = json.loads((copy / "config.json").read_text())["vision_config"]
    rewrite(copy, vision_config={**config, "image_size": 16})
    with refused("16 × 16 pixels, the base 8"):
        made.load(copy, torch.float32, CPU)


@pytest.mark.parametrize("image", [b"", b"no image", picture(0)[:60], picture(0, (30, 30), "jpeg")[:300]])
def test_images_that_cannot_be_decoded_are_refused(made, image):
    examples = made.examples("parity", [(picture(1), 0), (image, 0)])
    with refused("an image cannot be decoded"):
        made.collate(examples, CPU)


def test_directions_have_length_one(made, model):
    for task, head in HEADS.items():
        directions = model.heads.heads[task].directions
        assert directions.shape == (len(head.answers), 14)
        torch.testing.assert_close(directions, normalize(directions, dim=-1))
