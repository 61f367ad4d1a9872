"""The names of methods, tasks and models in tables, figures and pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remerge import sources
from remerge.variants import parse

MODELS = {
    "base": "Unmerged base",
    "expert": "Best single expert",
    "experts": "Each task's expert",
    "multitask": "Multitask",
}
"""The unmerged models."""

TASKS = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "qqp": "QQP",
    "qnli": "QNLI",
    "mnli": "MNLI",
    "rte": "RTE",
    "mrpc": "MRPC",
    "stsb": "STS-B",
    "imdb": "IMDB",
    "qasc": "QASC",
    "squad": "SQuAD",
    "common_gen": "CommonGen",
    "paws": "PAWS",
    "quartz": "QuaRTz",
    "story_cloze": "StoryCloze",
    "wiki_qa": "WikiQA",
    "winogrande": "WinoGrande",
    "cars": "Cars",
    "dtd": "DTD",
    "eurosat": "EuroSAT",
    "gtsrb": "GTSRB",
    "mnist": "MNIST",
    "resisc45": "RESISC45",
    "sun397": "SUN397",
    "svhn": "SVHN",
}

METRICS = {
    "accuracy": "accuracy",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "exact_match": "exact match",
    "token_f1": "token F1",
    "last_number": "right last number",
    "choice": "choice accuracy",
    "choice_by_length": "choice accuracy by length",
    "matthews": "Matthews correlation",
    "f1": "F1",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}

_LEVELS = {"task": "TL", "layer": "LL"}
_DIVERGENCES = {"kl": "KL", "js": "JS", "reverse_kl": "reverse KL"}


@dataclass(frozen=True)
class Printed:
    """A variant as it is printed.

    Attributes:
        method: the method's own name.
        kind: the divergence that it minimises, if it does.
        level: the level of its coefficients, TL or LL, if they are learned.
        notes: the parameters that are not at their defaults.
    """

    method: str
    kind: str = ""
    level: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """``DivMerge JS (TL)``, ``TIES``, ``TIES (density 0.1)``."""
        notes = ", ".join(filter(None, (self.level, *self.notes)))
        return f"{self.objective} ({notes})" if notes else self.objective

    @property
    def objective(self) -> str:
        """``DivMerge JS``, ``TIES``: the method, at whatever level and with whatever parameters."""
        return f"{self.method} {self.kind}".rstrip()


def printed(variant: str, params: Mapping[str, Any] | None = None) -> Printed:
    """A variant in print, by its name, and by ``params`` where the name leaves them out or has a digest.

    A method that is not ours has the name of its variant.
    """
    name, named = parse(variant)
    method = sources.known().get(name)
    if method is None:
        return Printed(variant)
    always = {key: method.defaults[key] for key in ("divergence", "level") if key in method.defaults}
    recorded = {k: v if isinstance(v, str) else "" for k, v in (params or {}).items() if k in always}
    chosen = {**always, **recorded, **named, **_digested(named, params or {})}
    kind, level = chosen.pop("divergence", ""), chosen.pop("level", "")
    chosen.pop("seeds", None)  # the same method, made several times
    notes = (_note(key, chosen[key]) for key in sorted(chosen) if chosen[key] != method.defaults.get(key))
    return Printed(method.label, _DIVERGENCES.get(kind, kind), _LEVELS.get(level, level), tuple(notes))


def _digested(named: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, str]:
    """Words and mappings, in place of the digests that a folder's name has of them."""
    given = {key: params[key] for key in named if key in params}
    words = {key: value for key, value in given.items() if isinstance(value, str)}
    # A number for each name would be too long; the digest tells two mappings apart.
    return words | {
        key: f"by {_keyed(value)} {named[key]}" for key, value in given.items() if isinstance(value, Mapping)
    }


def _keyed(numbers: Mapping[str, Any]) -> str:
    """Whether numbers are given for each task or for each layer: no task's name has a dot."""
    return "layer" if any("." in name for name in numbers) else "task"


def task_label(task: str) -> str:
    """A task's name as in the papers."""
    return TASKS.get(task, task)


def _note(key: str, value: Any) -> str:
    """``density 0.1``, ``tuned``, ``no prune``."""
    if isinstance(value, bool):
        return key if value else f"no {key}"
    return f"{key} {_as_written(value) if key == 'over' else value}"


def _as_written(variant: str) -> str:
    """A method that prepares vectors, by its label, with the parameters that its name has, defaults too."""
    name, params = parse(variant)
    method = sources.known().get(name)
    label = method.label if method else name
    notes = ", ".join(_note(key, value) for key, value in params.items())
    return f"{label} ({notes})" if notes else label


def every(n: int, what: str) -> str:
    """A number of merges or pairs, as captions have it: ``all n = 6 pairs``, ``the only pair``."""
    return f"all n = {n:,} {what}s" if n > 1 else f"the only {what}"


def duration(seconds: float) -> str:
    """Seconds in print."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
