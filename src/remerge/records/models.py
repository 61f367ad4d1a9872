"""Models, and files without a record of their own: their contents and origins."""

from pathlib import Path

from pydantic import Field

from remerge.records._record import Record
from remerge.variants import digest


class Model(Record):
    """A model: the `base`, `multitask`, or an expert, named after its task.

    Attributes:
        model: its name.
        fingerprint: a digest of its weights.
        files: the digest of every file that it is loaded from, by name.
        follows: for a model trained here, the origins of its training, each by a digest.
        versions: the versions of the packages that trained or found it.
        linearised_at: the fingerprint of the base at which a linearised model is an expansion.
        inode: the number of its folder in the file system, to notice that another one took its place.
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
    inode: int | None = None

    @classmethod
    def place(cls, results: Path, **key: str | int) -> Path:
        """`base.json`, or a file in `experts`."""
        model = key["model"]
        return Path(results) / ("base.json" if model == "base" else f"experts/{model}.json")

    @property
    def content(self) -> str:
        """A digest of the whole model: weights, heads, configuration, tokenizer."""
        return digest(self.files)


class Made(Record):
    """A note beside a file without a record of its own: data, references, statistics.

    Attributes:
        what: the file, below the results.
        digest: the digest of its bytes, as printed by `sha256sum`.
        follows: its origins, each by a digest: models, inputs, code, settings.
        versions: the versions of the packages that made it.
    """

    file = "{what}.json"

    what: str
    digest: str
    follows: dict[str, str]
    versions: dict[str, str]
