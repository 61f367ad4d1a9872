"""What methods, tasks and models are called in print."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remerge import sources

MODELS = {"base": "Unmerged base", "experts": "Each task's expert", "multitask": "Multitask"}
"""What stands unmerged."""

TASKS = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "qqp": "QQP",
    "qnli": "QNLI",
    "mnli": "MNLI",
    "rte": "RTE",
    "mrpc": "MRPC",
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

_LEVELS = {"task": "TL", "layer": "LL"}
_DIVERGENCES = {"kl": "KL", "js": "JS", "reverse_kl": "reverse KL"}


@dataclass(frozen=True)
class Printed:
    """A variant as it is printed.

    Attributes:
        method: the method's own name.
        kind: the divergence that it minimises, if it does.
        level: of its coefficients, TL or LL, if they are learned.
        notes: the parameters that are not at their defaults.
    """

    method: str
    kind: str = ""
    level: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """``DivMerge JS (TL)``, ``TIES``, ``TIES (density 0.1)``."""
        name = f"{self.method} {self.kind}".rstrip()
        notes = ", ".join(filter(None, (self.level, *self.notes)))
        return f"{name} ({notes})" if notes else name


def printed(variant: str, params: Mapping[str, Any] | None = None) -> Printed:
    """A variant in print, by its name, and by ``params`` where the name leaves them out.

    A method that is none of ours is called what its variant is called.
    """
    name, named = _parse(variant)
    method = sources.known().get(name)
    if method is None:
        return Printed(variant)
    always = {key: method.defaults[key] for key in ("divergence", "level") if key in method.defaults}
    recorded = {key: value for key, value in (params or {}).items() if key in always}
    chosen = {key: str(value) for key, value in {**always, **recorded, **named}.items()}
    kind, level = chosen.pop("divergence", ""), chosen.pop("level", "")
    notes = (f"{k} {v}".rstrip() for k, v in sorted(chosen.items()) if not _same(v, method.defaults.get(k)))
    return Printed(method.label, _DIVERGENCES.get(kind, kind), _LEVELS.get(level, level), tuple(notes))


def task_label(task: str) -> str:
    """A task as the papers write it."""
    return TASKS.get(task, task)


def _parse(variant: str) -> tuple[str, dict[str, str]]:
    method, _, rest = variant.partition("@")
    pairs = (part.partition("=") for part in rest.split(",") if part)
    return method, {key: value for key, _, value in pairs}


def _same(written: str, default: Any) -> bool:
    try:
        return float(written) == float(default)
    except (TypeError, ValueError):
        return written == str(default)
