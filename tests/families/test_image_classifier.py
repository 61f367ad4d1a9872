"""Images through a classification head: transformers' own logits, heads of several tasks, what is refused."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ConvNextConfig,
    Dinov2Config,
    ResNetConfig,
    SwinConfig,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from remerge.errors import UserError
from remerge.families import Head, family
from remerge.families.heads import ABSENT
from remerge.families.images import decode
from remerge.miniature import examples as drawn

CPU = torch.device("cpu")
SIZES = {"image_size": 8, "patch_size": 4, "num_attention_heads": 2, "num_hidden_layers": 2}
CONFIGS = {
    "vit": ViTConfig(hidden_size=16, intermediate_size=24, **SIZES),
    "dinov2": Dinov2Config(hidden_size=16, mlp_ratio=2, **SIZES),
    "swin": SwinConfig(
        image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2
    ),
    "convnext": ConvNextConfig(hidden_sizes=[8, 8], depths=[1, 1], patch_size=2, num_stages=2, image_size=16),
}
TASKS = {"digit": 10, "parity": 2}


def save(config, folder, classes, seed=0):
    """A random model of an architecture with a head of some classes, and its processor."""
    torch.manual_seed(seed)
    config.num_labels, config.initializer_range = classes, 0.3
    model = AutoModelForImageClassification.from_config(config).eval()
    model.save_pretrained(folder)
    size = config.image_size
    ViTImageProcessorPil(size={"height": size, "width": size}).save_pretrained(folder)
    return model


def images(task, count=4):
    return [row["image"] for row in drawn(task, "test", count, 0)]


@pytest.mark.parametrize("name", CONFIGS)
def test_each_image_is_judged_by_the_head_of_its_own_task(name, tmp_path):
    """As by the checkpoint that the head comes from, in a batch of several tasks."""
    for task, classes in TASKS.items():
        save(CONFIGS[name], tmp_path / task, classes)
    save(CONFIGS[name], tmp_path / "base", 1000)
    found = family("image_classifier", tmp_path / "base")
    model = found.load(tmp_path / "digit", torch.float32, CPU)
    heads = {task: Head(tmp_path / task, [str(k) for k in range(n)]) for task, n in TASKS.items()}
    found.equip(model, heads)
    asked = {task: found.examples(task, [(image, 0) for image in images(task)]) for task in TASKS}
    mixed = [example for pair in zip(*asked.values(), strict=True) for example in pair]
    batch = found.collate(mixed, CPU)
    logits = found.logits(model, batch)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "base", backend="pil")
    own = AutoModelForImageClassification.from_pretrained(tmp_path / "digit").eval()
    pixels = processor([decode(e.prompt) for e in mixed], return_tensors="pt").pixel_values
    assert torch.equal(batch.inputs["pixel_values"], pixels)
    with torch.no_grad():
        assert torch.allclose(logits[::2], own(pixels[::2]).logits, atol=1e-5)
        head = load_file(tmp_path / "parity/model.safetensors")
        own.classifier.weight.data, own.classifier.bias.data = (
            head["classifier.weight"],
            head["classifier.bias"],
        )
        assert torch.allclose(logits[1::2, :2], own(pixels[1::2]).logits, atol=1e-5)
    assert (logits[1::2, 2:] == ABSENT).all()
    assert found.greedy(model, mixed) == [[k] for k in logits.argmax(dim=1).tolist()]


@pytest.mark.parametrize("name", CONFIGS)
def test_each_architecture_computes_in_half_precision(name, tmp_path):
    """As on a GPU: some convert the pixels themselves, others refuse them."""
    save(CONFIGS[name], tmp_path, 10)
    found = family("image_classifier", tmp_path)
    batch = found.collate(found.examples("digit", [(image, 0) for image in images("digit")]), CPU)
    logits = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = found.load(tmp_path, dtype, CPU)
        found.equip(model, {"digit": Head(tmp_path, [str(k) for k in range(10)])})
        logits[dtype] = found.logits(model, batch)
    assert torch.allclose(logits[torch.bfloat16], logits[torch.float32], atol=0.1)


def test_a_body_without_a_head_gets_a_fresh_one(tmp_path):
    """As of ViTs that were pretrained on unlabelled images; what is trained loads by transformers."""
    ViTModel(CONFIGS["vit"]).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path)
    found = family("image_classifier", tmp_path)
    model = found.load(tmp_path, torch.float32, CPU)
    found.equip(model, {"digit": Head(None, [str(k) for k in range(10)])})
    batch = found.collate(found.examples("digit", [(image, 1) for image in images("digit")]), CPU)
    logits = found.logits(model, batch)
    assert logits.shape == (4, 10)
    found.save(model, tmp_path / "expert")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "expert").eval()
    assert again.config.id2label[7] == "7"
    with torch.no_grad():
        assert torch.allclose(again(**batch.inputs).logits, logits, atol=1e-6)


def test_what_cannot_be_merged_rightly_is_refused(tmp_path):
    net = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=2)
    AutoModelForImageClassification.from_config(net).save_pretrained(tmp_path / "resnet")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "resnet")
    with pytest.raises(UserError, match=r"running_mean is a running mean, of which a merge has none"):
        family("image_classifier", tmp_path / "resnet").load(tmp_path / "resnet", torch.float32, CPU)
    save(CONFIGS["vit"], tmp_path / "base", 2)
    larger = ViTConfig(hidden_size=16, intermediate_size=24, **{**SIZES, "image_size": 16})
    save(larger, tmp_path / "larger", 2)
    with pytest.raises(UserError, match=r"it takes images of 16 × 16 pixels, the base 8: give an expert"):
        family("image_classifier", tmp_path / "base").load(tmp_path / "larger", torch.float32, CPU)
    (tmp_path / "base/preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="no image processor"):
        family("image_classifier", tmp_path / "base")
