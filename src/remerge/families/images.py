"""Images as inputs of models."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from transformers import AutoImageProcessor

from remerge.checkpoints.architecture import AS_DATA
from remerge.errors import UserError, cause_of
from remerge.families import Batch, Example

REMEMBERED = 2**31
"""The most bytes of preprocessed images that are kept: every model needs them again."""


class Images:
    """A family that reads images.

    Args:
        processor: what resizes, crops and normalises them, for the base and all experts.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self._pixels: dict[Sequence[int], Tensor] = {}
        self._bytes = 0

    def added(self, folder: Path) -> list[str]:
        """An empty list: experts read images, not tokens."""
        return []

    def examples(self, task: str, pairs: Sequence[tuple[Any, Any]]) -> list[Example]:
        """The image file, and the number of the class."""
        return [Example(image, [label], task) for image, label in pairs]

    def lengths(self, prompts: Sequence[Any]) -> list[int]:
        """1 for every image."""
        return [1] * len(prompts)

    def collate(self, examples: Sequence[Example], device: torch.device, multiple: int = 1) -> Batch:
        """Images of the model's size, with one judged position each.

        Raises:
            UserError: an image cannot be decoded.
        """
        rows = torch.arange(len(examples))
        targets = torch.tensor([e.answer[0] for e in examples])
        inputs = {"pixel_values": self._preprocessed([e.prompt for e in examples])}
        return Batch(inputs, (rows,), targets, rows, [e.task for e in examples]).to(device)

    def _preprocessed(self, images: Sequence[Any]) -> Tensor:
        """The pixels of image files; those of earlier batches come from memory."""
        new = [image for image in dict.fromkeys(images) if image not in self._pixels]
        made = dict(zip(new, preprocess(new, self.processor), strict=True)) if new else {}
        pixels = torch.stack([made[i] if i in made else self._pixels[i] for i in images])
        # Early images are kept: if the oldest were dropped, passes over more images than fit would find none.
        if self._bytes < REMEMBERED:
            self._pixels |= made
            self._bytes += sum(tensor.nbytes for tensor in made.values())
        return pixels


def image_processor(folder: Path) -> Any:
    """The size, crop, mean and standard deviation of a folder's `preprocessor_config.json`.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        # If torchvision is installed, its processors would make slightly different pixels.
        return AutoImageProcessor.from_pretrained(folder, backend="pil", **AS_DATA)  # type: ignore[no-untyped-call]
    except Exception as error:  # each processor refuses its settings in its own way
        cause = cause_of(error)
        raise UserError(f"{folder}: no image processor ({cause}): save it beside the model") from None


def decode(image: bytes) -> Image.Image:
    """An image file's pixels, in three colours, turned as its camera says.

    Raises:
        UserError: the bytes are not a complete image, or have more than 8 bits per colour, of which Pillow
            makes white.
    """
    try:
        opened = Image.open(BytesIO(image))
        if opened.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels are of type {opened.mode}, not of 8 bits per colour")
        return ImageOps.exif_transpose(opened).convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"an image cannot be decoded ({error}): give the bytes of a PNG or JPEG file"
        ) from None


def preprocess(images: Sequence[bytes], processor: Any) -> Tensor:
    """Image files resized, cropped and normalised: float32 ``[B, 3, H, W]``.

    Raises:
        UserError: one of them cannot be decoded.
    """
    pixels: Tensor = processor([decode(image) for image in images], return_tensors="pt").pixel_values
    return pixels.float()
