"""Models, and files that carry no record of their own: what they are and what they were made from."""

from pathlib import Path

from pydantic import Field

from remerge.records._record import Record
from remerge.variants import digest


class Model(Record):
    """A model: the `base`, `multitask`, or an expert, called by its task.

    Attributes:
        model: what it is called.
        fingerprint: a short name for its weights.
        files: the digest of every file that it is loaded from, by name.
        follows: of a model that was trained here, what its training followed from, each by a digest.
        versions: of the packages that trained it or found it.
        linearised_at: the fingerprint of the base that a linearised model is an expansion at.
    """

    model: str | None = None
    source: str
    path: str
    fingerprint: str
    files: dict[str, str]
    follows: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    family: str
    architecture: str
    parameters: int
    seconds: float
    device: str
    training: dict[str, int | float] = Field(default_factory=dict)
    linearised_at: str | None = None

    @classmethod
    def place(cls, results: Path, **key: str | int) -> Path:
        """`base.json`, or a file of `experts`."""
        model = key["model"]
        return Path(results) / ("base.json" if model == "base" else f"experts/{model}.json")

    @property
    def content(self) -> str:
        """A short name for all that the model is: weights, heads, configuration, tokenizer."""
        return digest(self.files)


class Made(Record):
    """A file that carries no record of its own: data, references, statistics; it lies beside it.

    Attributes:
        what: the file, below the results.
        digest: of its bytes, as `sha256sum` prints it.
        follows: what it was made from, each by a digest: models, inputs, code, settings.
        versions: of the packages that made it.
    """

    file = "{what}.json"

    what: str
    digest: str
    follows: dict[str, str]
    versions: dict[str, str]
