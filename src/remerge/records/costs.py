"""Time and memory that the jobs of a run took."""

from remerge.records._record import Record


class Cost(Record):
    """Time and memory of one job, in the process that finished it: those of a killed one are not counted.

    Attributes:
        job: its stage and what it is of, ``experts/cola``.
        seconds: of the stage, from start to end.
        cpu: seconds of all threads of the process, imports included.
        memory: the most bytes that the process held.
        gpu: the most bytes that it held of a GPU.
        passes: forward passes through models, each of a batch; in decoding one a token.
    """

    file = "costs/{job}.json"

    job: str
    seconds: float
    cpu: float
    memory: int
    gpu: int
    passes: int
