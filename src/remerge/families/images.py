"""Images as inputs of CLIP's vision tower."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

# Not CLIPImageProcessor: if torchvision is installed, that is another class, with slightly different pixels.
from transformers import CLIPImageProcessorPil

from remerge.errors import UserError, cause_of


def image_processor(folder: Path) -> CLIPImageProcessorPil:
    """The size, crop, mean and standard deviation of a folder's `preprocessor_config.json`.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        return CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
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


def preprocess(images: Sequence[bytes], processor: CLIPImageProcessorPil) -> Tensor:
    """Image files resized, cropped and normalised: float32 ``[B, 3, H, W]``.

    Raises:
        UserError: one of them cannot be decoded.
    """
    pixels: Tensor = processor([decode(image) for image in images], return_tensors="pt").pixel_values
    return pixels.float()
