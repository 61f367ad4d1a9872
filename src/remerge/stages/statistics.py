"""Statistics of an expert that some methods need beyond its weights: Fisher information, Gram matrices."""

from pathlib import Path

from safetensors.torch import save_file
from tqdm import tqdm

from remerge import made
from remerge.config import Config
from remerge.errors import UserError, unknown
from remerge.files import write_with
from remerge.measures import curvature
from remerge.stages._workspace import Workspace

KINDS = ["fisher", "grams"]


def run(config: Config, task: str, kind: str) -> None:
    """Compute one kind of statistics of an expert on training inputs of its task."""
    if kind not in KINDS:
        raise UserError(unknown("kind of statistics", kind, KINDS))
    space = Workspace(config)
    examples = space.statistics_inputs(task)
    model = space.load(task, [task])
    bar = tqdm(examples, desc=f"{kind} of {task}", mininterval=1)
    # One input per batch: Fisher information squares the gradients of single inputs, and nothing is padded.
    batches = (space.family.collate([example], space.device) for example in bar)
    if kind == "fisher":
        found = curvature.fisher(model, batches, space.family.logits, seed=config.seed)
    else:
        found = curvature.grams(model, batches, space.family.logits)
    tensors = {name: tensor.contiguous() for name, tensor in found.items()}

    def write(file: Path) -> None:
        write_with(file, lambda temporary: save_file(tensors, temporary))

    made.make(space.folder, space.statistics_file(task, kind), space.statistics_follow(task), write)
