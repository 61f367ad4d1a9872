"""``report.html``: the run, every table and figure, and how to make each again, in one offline file."""

import base64
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from remerge import exhibits
from remerge.exhibits import Exhibit
from remerge.exhibits._published import Published, published_expert
from remerge.files import read_bytes, write_text
from remerge.launch import command
from remerge.records import Lengths, Merge, Model, Scores
from remerge.report.answer import BEST, outcome
from remerge.report.costs import costs
from remerge.report.examples import answered
from remerge.report.labels import MODELS, duration, task_label
from remerge.report.make import place
from remerge.report.recorded import Variant
from remerge.report.run import Run
from remerge.report.table import MISSING, number
from remerge.verify import look
from remerge.versions import versions

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
WEAK = 2.0
"""Points below its published score at which an expert may have been trained with another prompt."""

FILES = {"table": ("csv", "md", "tex"), "figure": ()}
"""Formats that may be downloaded from the page; a figure's files would make it large."""


def write_report(results: Path) -> None:
    """Write ``report.html`` from the records, and from the existing tables and figures.

    Raises:
        UserError: one of them is missing.
    """
    run = Run(results)
    write_text(page_file(run), page(run))


def page_file(run: Run) -> Path:
    """Where the page of a run is."""
    return run.results / "report.html"


def page(run: Run) -> str:
    """The page as it is written in this folder, on this machine, now."""
    return _without_places(run, render("page.html", context(run)))


def of_records(written: str) -> str:
    """A page without what belongs to the machine that wrote it: commands, the cost of the run, versions."""
    commands = r'<div class="again">.*?<span class="files">'
    costs = r'<a href="#took">Cost</a>\s*|\s*<\w+ class="\w+" id="(took|environment)">.*?</main>'
    return re.sub(rf"{commands}|{costs}", "", written, flags=re.DOTALL)


def _without_places(run: Run, page: str) -> str:
    """The page without the folders of models, data and rules on this machine, so that it may be published."""
    config = run.config
    said = [config.base.source, *map(str, [*config.methods, *config.rules])]
    said += [source for task in config.tasks.values() for source in (task.source, task.expert) if source]
    for local in sorted({source for source in said if Path(source).is_absolute()}, key=len, reverse=True):
        # As a whole: /data is no part of results/demo/data.
        whole = rf"(?<![\w./+-]){re.escape(str(escape(local)))}(?!\w)"
        page = re.sub(whole, f"…/{escape(Path(local).name)}".replace("\\", r"\\"), page)
    return page


def render(template: str, values: dict[str, Any]) -> str:
    """A page from a template of this folder."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    return environment.get_template(template).render(values)


def context(run: Run) -> dict[str, Any]:
    """Everything that the template prints."""
    in_order = sorted(exhibits.of(run.config).values(), key=lambda exhibit: exhibit.name != BEST)
    return {
        "benchmark": run.benchmark,
        "seed": run.config.seed,
        "tasks": _tasks(run),
        "models": _models(run),
        "counts": _counts(run),
        "merges": len(run.merged),
        "others": _others(run),
        "methods": run.merged["variant"].nunique(),
        "variants": [_variant(run, variant) for variant in run.variants],
        "sizes": run.sizes,
        "base": run.model("base"),
        "outcome": outcome(run),
        "weak": _weak(run),
        "seen": _seen(run),
        "remarks": _remarks(run),
        "texts": run.config.base.reads == "text",
        "answered": answered(run),
        "costs": costs(run),
        "checked": look(run),
        "versions": list(versions(PACKAGES).items()),
        "config": (run.results / "config.yaml").read_text("utf-8"),
        "command": command(run.benchmark),
        "exhibits": [_exhibit(exhibit, run) for exhibit in in_order],
    }


def _exhibit(exhibit: Exhibit, run: Run) -> dict[str, Any]:
    """A table or a figure as its rule wrote it."""
    suffixes = ("html", *FILES[exhibit.kind])
    files = {suffix: read_bytes(place(run, exhibit, suffix)) for suffix in suffixes}
    main = "csv" if exhibit.kind == "table" else "pdf"
    target = f"results/{run.benchmark}/{exhibit.kind}s/{exhibit.name}.{main}"
    return {**embedded(exhibit, files), "target": target}


def embedded(exhibit: Exhibit, files: Mapping[str, bytes]) -> dict[str, Any]:
    """A table or a figure within a page, from its files by format; some may be downloaded."""
    return {
        "name": exhibit.name,
        "short": exhibit.short,
        "piece": Markup(files["html"].decode()),  # escaped when it was printed
        "files": {suffix: _data_uri(files[suffix]) for suffix in FILES[exhibit.kind]},
    }


def _data_uri(data: bytes) -> str:
    return f"data:text/plain;base64,{base64.b64encode(data).decode()}"


def _tasks(run: Run) -> list[dict[str, Any]]:
    scores = run.scores("base")
    rows = []
    for task, asked in run.config.tasks.items():
        reference = run.reference(task)
        rows.append(
            {
                "label": task_label(task),
                "source": "/".join(filter(None, (asked.source, asked.subset))),
                "prompt": asked.prompt or _some(asked.captions),
                "answers": ", ".join(asked.answers) or MISSING,
                "metric": scores[task].metric,
                "train": _whole(asked.sizes.train),
                "references": _whole(reference.inputs) if reference else MISSING,
                "test": _whole(scores[task].n),
                "tokens": _tokens(run.lengths, task),
            }
        )
    return rows


def _some(captions: Sequence[str]) -> str:
    """The first of a task's captions, which may be dozens."""
    further = f", … ({len(captions)} captions)" if captions[1:] else ""
    return f"{captions[0]}{further}" if captions else MISSING


def _tokens(lengths: Lengths | None, task: str) -> str:
    """The median and the largest length of a task's test prompts."""
    if lengths is None:
        return MISSING
    test = lengths.prompts[task]["test"]
    return f"{_whole(test.median)}, {_whole(test.longest)}"


def _models(run: Run) -> list[dict[str, Any]]:
    labels = {"base": MODELS["base"]}
    labels |= {task: f"Expert of {task_label(task)}" for task in run.tasks}
    labels |= {name: MODELS[name] for name in run.references[1:]}
    return [_model(run, name, label) for name, label in labels.items()]


def _variant(run: Run, variant: Variant) -> dict[str, Any]:
    """A variant, and the existing records of its merges."""
    groups = run.config.groups(run.config.variant(variant.name))
    files = {group: Merge.place(run.results, variant=variant.name, group=group) for group in groups}
    records = {group: _from_page(run, file) for group, file in files.items() if file.is_file()}
    return {"name": variant.name, "label": variant.label, "records": records}


def _from_page(run: Run, file: Path) -> str:
    """The path of a record, as linked from the page."""
    return file.relative_to(run.results).as_posix()


def _model(run: Run, name: str, label: str) -> dict[str, Any]:
    model = run.model(name)
    training = model.training
    seen = [f"{_whole(training[unit])} {unit}" for unit in ("examples", "tokens") if unit in training]
    return {
        # Tables lead from a reference to its row here, and a task may have the name of a variant.
        "anchor": f"of-{name}" if name in run.references else f"expert-{name}",
        "label": label,
        "record": _from_page(run, Model.place(run.results, model=name)),
        "scores": _from_page(run, Scores.place(run.results, model=name)),
        "source": model.source,
        "fingerprint": model.fingerprint[:12],
        "steps": _whole(training["steps"]) if "steps" in training else MISSING,
        "seen": ", ".join(seen) or MISSING,
        "loss": number(training["loss"], 4) if "loss" in training else MISSING,
        "seconds": number(model.seconds, 1),
        "device": model.device,
    }


def _counts(run: Run) -> str:
    """The number of merged subsets of each size: ``6 + 4 + 1 = 11``."""
    counts = [str(len(run.config.subsets(size))) for size in run.sizes]
    total = sum(map(int, counts))
    return " + ".join(counts) + (f" = {total}" if len(counts) > 1 else "")


def _others(run: Run) -> str:
    """The number of merges of each plan that is not about subsets: ``, and 4 of negation``."""
    counts = Counter[str]()
    for variant in run.variants:
        for group, plan in run.config.groups(run.config.variant(variant.name)).items():
            if plan != "subsets":
                counts[plan] += len(run.merges(variant.name, group))
    return "".join(f", and {_whole(count)} of {plan}" for plan, count in counts.items())


def _weak(run: Run) -> list[dict[str, str]]:
    """The experts that score clearly below the paper's."""
    files = dict.fromkeys(file for exhibit in exhibits.of(run.config).values() for file in exhibit.files)
    numbers = [Published(file, run.benchmark) for file in files if file.suffix == ".csv"]
    found = []
    for task in run.tasks:
        ours, theirs = 100 * run.own[task].value, published_expert(numbers, task_label(task))
        if ours < theirs - WEAK:
            found.append({"label": task_label(task), "ours": number(ours, 1), "paper": number(theirs, 1)})
    return found


def _seen(run: Run) -> list[dict[str, str]]:
    """The tasks with test examples that were used for training or choices."""
    tests = {task: run.data(task).splits["test"] for task in run.tasks}
    return [
        {"label": task_label(task), "seen": _whole(test.seen), "n": _whole(test.n)}
        for task, test in tests.items()
        if test.seen
    ]


def _remarks(run: Run) -> list[dict[str, str]]:
    """Findings in the examples of each task."""
    found = {task: run.data(task).remarks() for task in run.tasks}
    if run.lengths:
        found = {task: [*said, *run.lengths.remarks(task)] for task, said in found.items()}
    return [{"label": task_label(task), "said": "; ".join(said)} for task, said in found.items() if said]


def _whole(value: float) -> str:
    return f"{int(value):,}"
