"""What methods, tasks and models are called in print, here and in the papers."""

from collections.abc import Mapping
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
LEARNED = ("adamerging", "divmerge")

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
_ROWS = {  # what a paper calls them: DivMerge in Table 3, DRM in Tables 10 to 15
    "divmerge": {
        "Model averaging": "Model Averaging",
        "Multi-SLERP": "Multi-SLERP",
        "TIES": "TIES",
        "AdaMerging (TL)": "TL Adamerging",
        "AdaMerging (LL)": "LL Adamerging",
        "DivMerge KL (TL)": "TL KL (ours)",
        "DivMerge KL (LL)": "LL KL (ours)",
        "DivMerge JS (TL)": "TL JS (ours)",
        "DivMerge JS (LL)": "LL JS (ours)",
    },
    "drm": {
        "Model averaging": "Simple Averaging",
        "Task arithmetic": "Task Arithmetic",
        "TIES": "TIES Merging",
        "DARE-TIES": "Dare-TIES",
        "DRM-H": "DRM-H",
        "DRM-V": "DRM-V",
    },
}


def parse(variant: str) -> tuple[str, dict[str, str]]:
    """Method and parameters of a variant's name: ``ties@density=0.1,scale=1.2``."""
    method, _, rest = variant.partition("@")
    pairs = (part.partition("=") for part in rest.split(",") if part)
    return method, {key: value for key, _, value in pairs}


def settings(variant: str, params: Mapping[str, Any] | None = None) -> tuple[str, dict[str, str]]:
    """Method and every parameter that print needs; ``params`` are those a record says were used."""
    method, named = parse(variant)
    usual = _USUAL.get(method, {})
    recorded = {key: str(value) for key, value in (params or {}).items() if key in usual}
    return method, {**usual, **recorded, **named}


def label(variant: str, params: Mapping[str, Any] | None = None) -> str:
    """The display name: ``DivMerge JS (TL)``, ``TIES``, ``TIES (density 0.1)``.

    An unknown method is called what its variant is called.
    """
    method, chosen = settings(variant, params)
    if method not in METHODS:
        return variant
    usual = _USUAL.get(method, {})
    name, notes = METHODS[method], []
    if method == "divmerge":
        divergence = chosen.pop("divergence")
        name += " " + _DIVERGENCES.get(divergence, divergence)
    if method in LEARNED:
        level = chosen.pop("level")
        notes.append(_LEVELS.get(level, level))
    notes += [f"{k} {v}" for k, v in sorted(chosen.items()) if not _same(v, usual.get(k))]
    return f"{name} ({', '.join(notes)})" if notes else name


def paper_row(paper: str, variant: str, params: Mapping[str, Any] | None = None) -> str | None:
    """What a paper, ``divmerge`` or ``drm``, calls this variant in its tables, if it has it."""
    return _ROWS[paper].get(label(variant, params))


def task_label(task: str) -> str:
    """A task as the papers write it."""
    return TASKS.get(task, task)


def _same(one: str, other: str | None) -> bool:
    try:
        return other is not None and float(one) == float(other)
    except ValueError:
        return one == other
