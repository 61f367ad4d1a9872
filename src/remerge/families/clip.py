"""CLIP's vision tower with zero-shot heads: the base's text tower makes each class from its captions."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoTokenizer, CLIPModel, CLIPVisionModel

from remerge.checkpoints.architecture import AS_DATA
from remerge.checkpoints.models import load_whole
from remerge.errors import UserError, cause_of
from remerge.families import Batch, Example, Head, most_likely
from remerge.families.heads import Heads, route
from remerge.families.images import Images, image_processor

CAPTION = "a photo of a {answer}."
"""The caption of an image of a class if the task gives none."""

AT_ONCE = 256
"""The number of captions that are read in one batch."""


def exactly(device: torch.device) -> torch.autocast:
    """float32 where mixed precision trains a model, in which logits of 30 would be multiples of 1/8."""
    return torch.autocast(device.type, enabled=False)


class ZeroShot(nn.Module):
    """A fixed head of buffers that are not trained, merged or saved.

    Args:
        projection: from the vision tower's width to the space of captions, ``[p, d]``.
        directions: the unit vector of each class there, ``[C, p]``.
        scale: the factor that multiplies the cosines.
    """

    projection: Tensor
    directions: Tensor

    def __init__(self, projection: Tensor, directions: Tensor, scale: float) -> None:
        super().__init__()
        self.register_buffer("projection", projection, persistent=False)
        self.register_buffer("directions", directions, persistent=False)
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        """The logits of the classes, ``[B, C]``, from images in the space of captions, ``[B, p]``."""
        with exactly(image.device):
            return self.scale * normalize(image, dim=-1) @ self.directions.T


class Clip(Images):
    """A vision tower with a zero-shot head for each task, in the order of the task's answers."""

    reads = "image"
    speaks = False

    def __init__(self, base: Path) -> None:
        config = _config(base)
        if config.model_type != "clip":
            raise UserError(f"{base}: no text tower to make the heads: give a whole CLIP as the base")
        # Without these files, AutoTokenizer returns a tokenizer without words.
        if not any((base / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            raise UserError(f"{base}: no tokenizer: save it beside the model")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(base, **AS_DATA)
        except Exception as error:  # the tokenizers library raises no narrower exception
            raise UserError(f"{base}: no tokenizer ({cause_of(error)}): save it again") from None
        super().__init__(image_processor(base))
        self.base = base
        self.image_size = config.vision_config.image_size
        self.longest = config.text_config.max_position_embeddings
        self._heads: dict[tuple[tuple[str, ...], tuple[str, ...]], ZeroShot] = {}

    def load(self, folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """A folder's vision tower, stored alone or as part of a whole CLIP.

        Raises:
            UserError: the folder has no CLIP or is incomplete, or its image size differs from the base's.
        """
        config = _config(folder)
        size = getattr(config, "vision_config", config).image_size
        if size != self.image_size:
            raise UserError(
                f"{folder}: it takes images of {size} × {size} pixels, the base {self.image_size}: "
                "give an expert of this base"
            )
        model: Any = load_whole(CLIPVisionModel, folder, dtype)
        model.heads = Heads(nn.Identity())
        whole: nn.Module = model.to(device)
        return whole

    def equip(self, model: nn.Module, heads: Mapping[str, Head]) -> None:
        """Give the model these tasks' zero-shot heads, all made by the base's text tower.

        Raises:
            UserError: the base is incomplete.
        """
        place: Any = model
        asked = {task: (tuple(head.answers), tuple(head.captions)) for task, head in heads.items()}
        if new := [key for key in dict.fromkeys(asked.values()) if key not in self._heads]:
            clip: Any = load_whole(CLIPModel, self.base, torch.float32)
            for key in new:
                directions = self._directions(clip, *key)
                scale = clip.logit_scale.exp().item()
                self._heads[key] = ZeroShot(clip.visual_projection.weight.detach(), directions, scale)
        device = next(model.parameters()).device
        for task, key in asked.items():
            kept = self._heads[key]
            place.heads.heads[task] = ZeroShot(kept.projection, kept.directions, kept.scale).to(device)

    def heads(self, model: nn.Module) -> list[str]:
        """An empty list: the heads are fixed."""
        return []

    @torch.no_grad()
    def _directions(self, clip: Any, answers: Sequence[str], captions: Sequence[str]) -> Tensor:
        """For each answer, the unit vector along the mean of its captions' unit vectors, ``[C, p]``."""
        told = captions or (CAPTION,)
        texts = [caption.replace("{answer}", answer) for answer in answers for caption in told]
        self._tell_apart(answers, texts)
        found = []
        for start in range(0, len(texts), AT_ONCE):
            # On the left, padding would move the words away from their positions.
            how = {"padding": True, "padding_side": "right", "return_tensors": "pt"}
            tokens = self.tokenizer(texts[start : start + AT_ONCE], **how, verbose=False)
            pooled = clip.text_model(tokens.input_ids, tokens.attention_mask).pooler_output
            found.append(normalize(clip.text_projection(pooled), dim=-1))
        return normalize(torch.cat(found).reshape(len(answers), len(told), -1).mean(1), dim=-1)

    def _tell_apart(self, answers: Sequence[str], texts: Sequence[str]) -> None:
        """Refuse captions that are too long to be read, or the same for two answers."""
        rows = self.tokenizer([*texts], verbose=False).input_ids
        longest = max(range(len(rows)), key=lambda i: len(rows[i]))
        if len(rows[longest]) > self.longest:
            raise UserError(
                f"caption {texts[longest]!r}: the text tower reads {self.longest} tokens: give a shorter one"
            )
        each = len(texts) // len(answers)
        known: dict[str, str] = {}
        for i, answer in enumerate(answers):
            other = known.setdefault(str(rows[i * each : (i + 1) * each]), answer)
            if other != answer:
                raise UserError(
                    f"caption {texts[i * each]!r}: the base's tokenizer knows no word that tells it from "
                    f"that of {other}: write others"
                )

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the vision tower and the image processor."""
        whole: Any = model
        whole.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def labels(self, prompt: Any, answers: Sequence[str]) -> None:
        """None: a head has no answers other than the task's."""

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """The logits of the classes, float32 ``[B, C]``, where the widest head has C classes."""
        return self.read(model, batch, self.outputs(model, batch))

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """The images in the space of captions, float32 ``[B, p]``; all heads share one projection."""
        tower: Any = model
        projection: Tensor = next(iter(tower.heads.heads.values())).projection
        pooled: Tensor = tower(**batch.inputs).pooler_output
        with exactly(pooled.device):
            return pooled.float() @ projection.T

    def read(self, model: nn.Module, batch: Batch, outputs: Tensor) -> Tensor:
        """The logits of the classes, from images in the space of captions."""
        tower: Any = model
        route(model, batch.tasks)
        logits: Tensor = tower.heads(outputs)
        return logits

    def beside(self, model: nn.Module, tasks: Iterable[str], outputs: Tensor) -> Tensor:
        """The logits of all these tasks' classes, concatenated, ``[B, sum_t C_t]``, from ``outputs``."""
        tower: Any = model
        return torch.cat([tower.heads.heads[task](outputs) for task in tasks], dim=1)

    def greedy(
        self, model: nn.Module, examples: Sequence[Example], longest: int | None = None
    ) -> list[list[int]]:
        """Each image's most likely class."""
        return most_likely(self, model, examples)


def _config(folder: Path) -> Any:
    """The configuration of a CLIP or of its vision tower.

    Raises:
        UserError: the folder has none.
    """
    try:
        config = AutoConfig.from_pretrained(folder, **AS_DATA)
    except Exception as error:  # each configuration refuses its values in its own way
        raise UserError(f"{folder}: not a CLIP ({cause_of(error)}): give one") from None
    if config.model_type not in ("clip", "clip_vision_model"):
        raise UserError(f"{folder}: not a CLIP but a {config.model_type}: give one")
    return config
