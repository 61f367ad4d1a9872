"""What the divergence needs from an expert: its greedy answers and distributions, once per task."""

import time

from remerge.config import Config
from remerge.measures.references import make_reference, save_reference
from remerge.records import Reference
from remerge.stages._workspace import Workspace


def run(config: Config, task: str) -> None:
    """Keep an expert's greedy answers and distributions on its validation inputs, and on their stand-ins."""
    space, started = Workspace(config), time.perf_counter()
    inputs = space.reference_inputs(task)
    expert = space.load(task, [task])
    reference = make_reference(space.family, expert, inputs, config.evaluation.batch_size)
    save_reference(space.reference_file(task), reference)
    for kind in config.stand_ins:
        others = space.reference_inputs(task, kind)
        answers = make_reference(space.family, expert, others, config.evaluation.batch_size)
        save_reference(space.reference_file(task, kind), answers)
    Reference(
        task=task,
        inputs=len(inputs),
        positions=sum(len(e.answer) for e in reference.examples),
        seconds=time.perf_counter() - started,
        device=str(space.device),
    ).write(space.folder, task=task)
