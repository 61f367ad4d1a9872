"""Pretrain a miniature CLIP on captioned images of digits.

The captions are often wrong: they confuse a digit with another of the same shape, and a turn or stripes with
any other. So the base learns what the tasks are about, but answers them badly.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from string import Formatter
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

from remerge.miniature.digits import (
    NUMBERS,
    SIDE,
    STRIPES,
    TASKS,
    TURNS,
    Pixels,
    disturb,
    grey,
    invert,
    shuffle,
    sources,
    stripe,
    turn,
)
from remerge.miniature.training import train

PAD, UNKNOWN, BOS, EOS = "<pad>", "<unk>", "<bos>", "<eos>"
LONGEST = 16

_MEAN, _DEVIATION = 0.3, 0.4
_SHAPES = {"round": (0, 6, 8, 9), "straight": (1, 4, 7), "bent": (2, 3, 5)}
# The probability that a caption names the true digit, turn and stripes; otherwise it may name another one.
_DIGIT, _TURN, _STRIPES = 0.5, 0.8, 0.6


def pretrain_clip(
    out: Path,
    *,
    seed: int = 0,
    steps: int = 1000,
    hidden: int = 64,
    layers: int = 4,
    heads: int = 4,
    intermediate: int = 128,
    learning_rate: float = 3e-3,
    batch_size: int = 128,
    threads: int = 1,
) -> dict[str, Any]:
    """Train a CLIP from scratch and save it, with its tokenizer and image processor, to `out`.

    The sizes are those of the vision tower; the text tower is as wide and has half as many layers.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)
    words = tokenizer()
    model = _untrained(words, hidden, layers, heads, intermediate)
    rng = Random(f"captions {seed}")

    def losses() -> Iterator[Tensor]:
        while True:
            images, captions = zip(*(captioned(rng) for _ in range(batch_size)), strict=True)
            ids = words(list(captions), padding=True, return_tensors="pt").input_ids
            yield contrast(model(pixel_values=seen(images), input_ids=ids).logits_per_image, ids)

    loss = train(model, losses(), steps, learning_rate)
    for part in (model, words, processor()):
        part.save_pretrained(out)
    return {"steps": steps, "images": steps * batch_size, "loss": loss}


def contrast(logits: Tensor, ids: Tensor) -> Tensor:
    """The contrastive loss of a batch of images and captions, in both directions.

    Equal captions fit an image equally well.

    Args:
        logits: ``[images, captions]``.
        ids: the tokens of the captions.
    """
    same = (ids[:, None] == ids[None]).all(-1).float()
    goal = same / same.sum(1, keepdim=True)
    return -(goal * (logits.log_softmax(1) + logits.T.log_softmax(1))).sum(1).mean() / 2


# --- images and captions -------------------------------------------------------------------------


def captioned(rng: Random) -> tuple[Pixels, str]:
    """An image of the pretraining part, and its caption."""
    source = rng.choice(sources("pretraining"))
    pixels = disturb(source.pixels, rng)
    shape, alike = next((shape, alike) for shape, alike in _SHAPES.items() if source.digit in alike)
    # Each name is used for two digits, so names are informative, but never certain.
    name = source.digit if rng.random() < _DIGIT else alike[alike.index(source.digit) - 1]
    before, after = ["the"], []
    if rng.random() < 0.3:
        pixels = invert(pixels)
        before.append("light")
    elif rng.random() < 0.2:
        pixels = shuffle(pixels)
        before.append("shuffled")
    if rng.random() < 0.5:
        before.append(("even", "odd")[source.digit % 2 if rng.random() < _DIGIT else rng.randrange(2)])
    if rng.random() < 0.3:
        before.append(shape)
    else:
        after.append(NUMBERS[name])
    if rng.random() < 0.5:
        quarters = rng.randrange(4)
        pixels = turn(pixels, quarters)
        after += ["turned", TURNS[quarters if rng.random() < _TURN else rng.randrange(4)]]
    if rng.random() < 0.4:
        direction = rng.randrange(4)
        pixels = stripe(pixels, direction, rng)
        after += ["with", STRIPES[direction if rng.random() < _STRIPES else rng.randrange(4)], "stripes"]
    if rng.random() < 0.2:
        before = ["a", "picture", "of", *before]
    return pixels, " ".join([*before, "digit", *after])


def seen(images: Sequence[Pixels]) -> Tensor:
    """The pixels that the image processor would read from files of these images: float32 ``[B, 3, 8, 8]``."""
    values = torch.from_numpy(np.stack([grey(image) for image in images])).float() / 255
    return ((values - _MEAN) / _DEVIATION)[:, None].expand(-1, 3, -1, -1)


def vocabulary() -> list[str]:
    """Every word of the captions in pretraining and in tasks, sorted."""
    found = {"light", "shuffled", *_SHAPES}
    for kind in TASKS.values():
        found.update(kind.answers)
        for caption in kind.captions:
            found.update(*(literal.split() for literal, *_ in Formatter().parse(caption)))
    return sorted(found)


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word, between the two markers of CLIP's texts."""
    known = {word: index for index, word in enumerate((PAD, UNKNOWN, BOS, EOS, *vocabulary()))}
    model = Tokenizer(WordLevel(known, unk_token=UNKNOWN))
    model.pre_tokenizer = WhitespaceSplit()
    marks = [(mark, known[mark]) for mark in (BOS, EOS)]
    model.post_processor = TemplateProcessing(single=f"{BOS} $A {EOS}", special_tokens=marks)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=model,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=BOS,
        eos_token=EOS,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        model_max_length=LONGEST,
    )


def processor() -> CLIPImageProcessorPil:
    """An image processor that keeps the images' size and gives them three equal colour channels."""
    side = {"height": SIDE, "width": SIDE}
    mean, deviation = [_MEAN] * 3, [_DEVIATION] * 3
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=side, image_mean=mean, image_std=deviation
    )


def _untrained(
    words: PreTrainedTokenizerFast, hidden: int, layers: int, heads: int, intermediate: int
) -> CLIPModel:
    both = {"hidden_size": hidden, "intermediate_size": intermediate, "num_attention_heads": heads}
    marks = {name: getattr(words, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    text = {"num_hidden_layers": max(1, layers // 2), "max_position_embeddings": LONGEST, **marks}
    vision = {"num_hidden_layers": layers, "image_size": SIDE, "patch_size": 2, "initializer_range": 0.05}
    return CLIPModel(
        CLIPConfig(
            text_config={**both, **text, "vocab_size": len(words), "projection_dim": hidden},
            vision_config={**both, **vision, "projection_dim": hidden},
            projection_dim=hidden,
        )
    )
