"""An expert's greedy answers and distributions, once per task: the divergence needs them."""

import time
from functools import partial

from remerge import made
from remerge.config import Config
from remerge.measures import references
from remerge.records import Reference
from remerge.stages._workspace import Workspace


def run(config: Config, task: str) -> None:
    """Store an expert's answers on its validation inputs and their stand-ins: see `measures.references`."""
    space, started = Workspace(config), time.perf_counter()
    inputs = {kind: space.reference_inputs(task, kind) for kind in ("", *config.stand_ins)}
    expert, head, found = space.load(task, [task]), space.head(task), {}
    for kind, asked in inputs.items():
        at_once, longest = config.evaluation.batch_size, config.task(task).answer_tokens
        found[kind] = references.make_reference(space.family, expert, asked, at_once, head, longest)
        file, follows = space.reference_file(task, kind), space.reference_follows(task, asked)
        made.make(space.folder, file, follows, partial(references.save_reference, reference=found[kind]))
    Reference(
        task=task,
        inputs=len(inputs[""]),
        positions=sum(len(e.answer) for e in found[""].examples),
        seconds=time.perf_counter() - started,
        device=str(space.device),
    ).write(space.folder, task=task)
