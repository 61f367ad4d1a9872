"""What methods, tasks and models are called in print."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

METHODS = {
    "base": "Unmerged base",
    "experts": "Each task's expert",
    "multitask": "Multitask",
    "average": "Model averaging",
    "task_arithmetic": "Task arithmetic",
    "slerp": "SLERP",
    "multi_slerp": "Multi-SLERP",
    "karcher": "Karcher mean",
    "ties": "TIES",
    "dare": "DARE",
    "dare_ties": "DARE-TIES",
    "breadcrumbs": "Breadcrumbs",
    "della": "DELLA",
    "drm_h": "DRM-H",
    "drm_v": "DRM-V",
    "knots": "KnOTS",
    "tsv_m": "TSV-M",
    "iso_c": "Iso-C",
    "fisher": "Fisher",
    "regmean": "RegMean",
    "adamerging": "AdaMerging",
    "divmerge": "DivMerge",
}

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
_USUAL = {  # parameters that need no mention: the papers' own
    "task_arithmetic": {"scale": "0.4"},
    "ties": {"density": "0.2", "scale": "1.0", "scope": "model"},
    "adamerging": {"level": "task"},
    "divmerge": {"divergence": "js", "level": "task"},
}


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

    An unknown method is called what its variant is called.
    """
    method, named = _parse(variant)
    if method not in METHODS:
        return Printed(variant)
    usual = _USUAL.get(method, {})
    recorded = {key: str(value) for key, value in (params or {}).items() if key in usual}
    chosen = {**usual, **recorded, **named}
    kind, level = chosen.pop("divergence", ""), chosen.pop("level", "")
    notes = (f"{k} {v}" for k, v in sorted(chosen.items()) if not _same(v, usual.get(k)))
    return Printed(METHODS[method], _DIVERGENCES.get(kind, kind), _LEVELS.get(level, level), tuple(notes))


def task_label(task: str) -> str:
    """A task as the papers write it."""
    return TASKS.get(task, task)


def _parse(variant: str) -> tuple[str, dict[str, str]]:
    method, _, rest = variant.partition("@")
    pairs = (part.partition("=") for part in rest.split(",") if part)
    return method, {key: value for key, _, value in pairs}


def _same(one: str, other: str | None) -> bool:
    try:
        return other is not None and float(one) == float(other)
    except ValueError:
        return one == other
