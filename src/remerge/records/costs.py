"""Time and memory of a run's jobs."""

from remerge.records._record import Record


class Cost(Record):
    """Time and memory of one job, in the process that finished it: killed processes are not counted.

    Attributes:
        job: its stage and arguments, such as ``experts/cola``.
        seconds: the seconds of the stage, from start to end.
        cpu: the seconds of all threads of the process, including imports.
        memory: the peak memory of the process in bytes.
        gpu: its peak memory on a GPU in bytes.
        passes: forward passes through models, one per batch; in decoding one per token.
    """

    file = "costs/{job}.json"

    job: str
    seconds: float
    cpu: float
    memory: int
    gpu: int
    passes: int
