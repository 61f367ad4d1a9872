"""``report.html``: what was run, every table and figure, how to make each again; one offline file."""

import base64
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from remerge.files import write_text
from remerge.report.figures import draw
from remerge.report.labels import METHODS, task_label
from remerge.report.published import FOLDERS
from remerge.report.records import Records
from remerge.report.table import MISSING, Table, number
from remerge.report.tables import TABLES

PACKAGES = (
    "remerge",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "peft",
    "safetensors",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "snakemake",
)
FIGURES = {
    "divmerge_figure2": (
        "ANP against the number of tasks",
        "Mean ANP over all merges of a number of tasks; bands: 95% Student t intervals over merges, "
        "none where there is a single merge. Dotted: the unmerged base, and dash-dotted: the model "
        "fine-tuned on the union of the tasks, on the same subsets. Hollow markers: one coefficient "
        "a task (TL); filled: one a task and layer (LL) (DivMerge, Figure 2).",
    ),
    "divmerge_figure5": (
        "Divergences",
        "Divergence, in nats, of every expert (rows) from a task's own expert, on that task's "
        "validation inputs (columns), with KL(own ‖ other) on the left and JS on the right; each "
        "panel has its own scale (DivMerge, Figure 5).",
    ),
}
ORDER = {  # and what each is called in the navigation
    "divmerge_figure2": "Figure 2",
    "divmerge_table6": "Table 6",
    "drm_table10": "Tasks",
    "divmerge_table3": "Table 3",
    "labels": "Label words",
    "divmerge_table5": "Table 5",
    "divmerge_table2": "Table 2",
    "divmerge_figure5": "Figure 5",
    "selection": "Settings",
    "seconds": "Seconds",
}


def write_report(results: Path) -> None:
    """Write ``report.html`` from the records alone.

    Raises:
        UserError: a record is missing.
    """
    records = Records(results)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(context(records))
    write_text(Path(results) / "report.html", page)


def context(records: Records) -> dict[str, Any]:
    """Everything that the template prints."""
    tables = {name: build(records) for name, build in TABLES.items()}
    words = _words(records)
    # Heads and free text have no label words, methods that learn nothing no settings.
    empty = {name for name, found in (("labels", words), ("selection", records.tuned)) if not found}
    return {
        "benchmark": records.benchmark,
        "seed": records.config.get("seed", MISSING),
        "tasks": _tasks(records),
        "models": _models(records),
        "counts": _counts(records),
        "merges": len(records.merges),
        "variants": records.variants,
        "sizes": records.sizes,
        "base": records.base,
        "outcome": _outcome(records),
        "words": words,
        "stages": _stages(records),
        "versions": _versions(),
        "published": bool(records.published),
        "config": (records.results / "config.yaml").read_text(),
        "configfile": _configfile(records.benchmark),
        "exhibits": [_exhibit(name, tables, records) for name in ORDER if name not in empty],
    }


def _exhibit(name: str, tables: dict[str, Table], records: Records) -> dict[str, Any]:
    """A table or a figure as the template needs it."""
    source = {"divmerge": f"DivMerge, {ORDER[name]}", "drm": "DRM, Tables 10 to 15"}.get(
        name.split("_")[0], ""
    )
    exhibit = {"name": name, "short": ORDER[name], "source": source}
    if name in tables:
        table = tables[name]
        files = {"csv": table.csv(), "md": table.markdown(), "tex": table.latex()}
        return exhibit | {
            "title": table.title,
            "caption": table.caption,
            "body": Markup(table.html()),  # escaped cell by cell
            "target": f"results/{records.benchmark}/tables/{name}.csv",
            "files": {suffix: _data_uri(text.encode()) for suffix, text in files.items()},
            "figure": False,
        }
    title, caption = FIGURES[name]
    return exhibit | {
        "title": title,
        "caption": caption,
        "body": Markup(inline_svg(draw(name, records, "svg").decode(), name, title)),
        "target": f"results/{records.benchmark}/figures/{name}.pdf",
        "files": {},
        "figure": True,
    }


def inline_svg(svg: str, name: str, title: str) -> str:
    """An SVG file as part of a page: ids of its own, no header, as wide as its place."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _configfile(benchmark: str) -> str:
    """The configuration on the command line: one of ours, or a user's own of unknown place."""
    ours = any((folder.parent / f"{benchmark}.yaml").exists() for folder in FOLDERS)
    return f"config/{benchmark}.yaml" if ours else f"{benchmark}.yaml"


def _data_uri(data: bytes) -> str:
    return f"data:text/plain;base64,{base64.b64encode(data).decode()}"


def _tasks(records: Records) -> list[dict[str, Any]]:
    rows = []
    for task, given in records.config["tasks"].items():
        sizes, score = given.get("sizes") or {}, records.scores("base")[task]
        rows.append(
            {
                "label": task_label(task),
                "source": "/".join(p for p in (given.get("source"), given.get("subset")) if p),
                "prompt": given.get("prompt", MISSING),
                "answers": ", ".join(given.get("answers") or []) or MISSING,
                "metric": score["metric"],
                "train": _whole(sizes.get("train")),
                "references": _whole(records.reference(task).get("inputs")),
                "test": _whole(score["n"]),
            }
        )
    return rows


def _models(records: Records) -> list[dict[str, str]]:
    models = {METHODS["base"]: records.base}
    models.update({f"Expert of {task_label(t)}": records.expert(t) for t in records.tasks})
    models.update({METHODS[name]: records.expert(name) for name in records.references[1:]})
    rows = []
    for label, model in models.items():
        training = model.get("training") or {}
        rows.append(
            {
                "label": label,
                "source": str(model.get("source", MISSING)),
                "fingerprint": str(model.get("fingerprint", MISSING))[:12],
                "steps": _whole(training.get("steps")),
                "seen": _seen(training),
                "loss": _decimal(training.get("loss"), 4),
                "seconds": _decimal(model.get("seconds"), 1),
                "device": str(model.get("device", MISSING)),
            }
        )
    return rows


def _seen(training: dict[str, Any]) -> str:
    """How much a model trained here has seen: examples, or tokens of plain text."""
    units = [unit for unit in ("examples", "tokens") if unit in training]
    return ", ".join(f"{_whole(training[unit])} {unit}" for unit in units) or MISSING


def _counts(records: Records) -> str:
    """How many merges of each size one method makes: ``6 + 4 + 1 = 11``."""
    counts = [len(records.anp_of("base", size)) for size in records.sizes]
    return f"{' + '.join(map(str, counts))} = {sum(counts)}" if len(counts) > 1 else str(counts[0])


def _outcome(records: Records) -> dict[str, Any]:
    """The largest merge in one line: the best method, the base, and who ends at the base or below."""
    size = records.sizes[-1]
    ends = {v.label: fmean(records.anp_of(v.name, size)) for v in records.variants}
    base = fmean(records.anp_of("base", size))
    best = max(ends, key=lambda label: ends[label])
    return {
        "size": size,
        "best": best,
        "anp": number(ends[best], 1),
        "base": number(base, 1),
        "multitask": [number(fmean(records.anp_of(n, size)), 1) for n in records.references[1:]],
        "lost": [label for label, value in ends.items() if value <= base],
    }


def _words(records: Records) -> dict[str, Any] | None:
    """How much of the fall at the largest size is wrong label words; None without labels."""
    size = records.sizes[-1]
    strict = {v.label: fmean(records.anp_of(v.name, size)) for v in records.variants}
    loose = {v.label: fmean(records.anp_of(v.name, size, "restricted")) for v in records.variants}
    gaps = {label: loose[label] - strict[label] for label in strict}
    if any(gap != gap for gap in gaps.values()):
        return None
    most, least = max(gaps, key=lambda k: gaps[k]), min(gaps, key=lambda k: gaps[k])

    def one(label: str) -> dict[str, str]:
        fall = 100 - strict[label]
        return {"label": label, "gap": number(gaps[label], 1), "fall": number(fall, 1)}

    mean = fmean(strict.values())
    return {
        "size": size,
        "strict": number(mean, 1),
        "restricted": number(fmean(loose.values()), 1),
        "fall": number(100 - mean, 1),
        "gap": number(fmean(gaps.values()), 1),
        "most": one(most),
        "least": one(least),
    }


def _stages(records: Records) -> list[tuple[str, str]]:
    """The recorded seconds of each stage, added up over its jobs."""
    merges = records.merges
    names = [*records.tasks, *records.references[1:]]
    stages = {
        "base": float(records.base.get("seconds") or 0),
        "experts and multitask": sum(float(records.expert(n).get("seconds") or 0) for n in names),
        "references": sum(float(records.reference(t).get("seconds") or 0) for t in records.tasks),
        "merging weights": float(merges["merge"].sum()),
        "fitting coefficients": float(merges["fit"].sum()),
        "scoring merges": float(merges["evaluate"].sum()),
    }
    stages["total"] = sum(stages.values())
    return [(name, _duration(seconds)) for name, seconds in stages.items()]


def _versions() -> list[tuple[str, str]]:
    found = [("python", platform.python_version())]
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _whole(value: Any) -> str:
    return MISSING if value is None else f"{int(value):,}"


def _decimal(value: Any, digits: int) -> str:
    return MISSING if value is None else number(float(value), digits)
