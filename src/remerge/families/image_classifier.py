"""Models that see images through a classification head: ViT, Swin, ConvNeXT `…ForImageClassification`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageClassification

from remerge.checkpoints.architecture import AS_DATA
from remerge.errors import UserError, cause_of
from remerge.families import Batch
from remerge.families._headed import Headed
from remerge.families.images import Images, image_processor


class ImageClassifier(Headed, Images):
    """A body with a head for each task, like `Classifier`, that reads images."""

    auto = AutoModelForImageClassification
    reads = "image"
    speaks = False

    def __init__(self, base: Path) -> None:
        super().__init__(image_processor(base))
        self.image_size = _image_size(base)

    def load(self, folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """A folder's model without its head, in evaluation mode.

        Raises:
            UserError: as in `Headed`, or it takes images of another size than the base, or normalises by
                running statistics, which are no weights.
        """
        size = _image_size(folder)
        if size != self.image_size:
            raise UserError(
                f"{folder}: it takes images of {size} × {size} pixels, the base {self.image_size}: "
                "give an expert of this base"
            )
        model = super().load(folder, dtype, device)
        for name, _ in model.named_buffers():
            if name.endswith("running_mean"):
                raise UserError(
                    f"{folder}: {name} is a running mean, of which a merge has none: give an architecture "
                    "without batch normalisation, such as a ViT"
                )
        return model

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """As in `Headed`; ViT converts pixels to its own dtype, Swin and ConvNeXT leave it to the caller."""
        whole: Any = model
        inputs = {name: pixels.to(whole.dtype) for name, pixels in batch.inputs.items()}
        return super().logits(model, replace(batch, inputs=inputs))


def _image_size(folder: Path) -> Any:
    """The size of the images that a model takes; None if it takes any.

    Raises:
        UserError: transformers does not know the architecture.
    """
    try:
        return getattr(AutoConfig.from_pretrained(folder, **AS_DATA), "image_size", None)
    except Exception as error:  # each configuration refuses its values in its own way
        raise UserError(
            f"{folder}: transformers does not know its architecture or refuses its config.json "
            f"({cause_of(error)}): correct it, or give another model"
        ) from None
