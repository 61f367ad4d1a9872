"""An exhibit built from records, printed in every format, and as a piece of the page."""

from html import escape
from pathlib import Path
from typing import Literal

from remerge import exhibits
from remerge.errors import UserError
from remerge.exhibits import Exhibit
from remerge.files import write_bytes
from remerge.report.figure import FORMATS, Figure, draw, inline_svg, look
from remerge.report.run import Run
from remerge.report.table import Table


def write(results: Path, name: str, kind: Literal["table", "figure"]) -> None:
    """Write ``tables/<name>.{csv,md,tex,html}`` or ``figures/<name>.{pdf,svg,png,html}``.

    Raises:
        UserError: the benchmark has no such exhibit, or a record is missing.
    """
    run = Run(results)
    mine = {e.name: e for e in exhibits.of(run.config).values() if e.kind == kind}
    if name not in mine:
        raise UserError(f"unknown {kind} {name!r} of {run.benchmark}, known: {', '.join(mine)}")
    for suffix, data in printed(mine[name], run).items():
        write_bytes(place(run, mine[name], suffix), data)


def place(run: Run, exhibit: Exhibit, suffix: str) -> Path:
    """The file of an exhibit of a run in one format."""
    return run.results / f"{exhibit.kind}s" / f"{exhibit.name}.{suffix}"


def printed(exhibit: Exhibit, run: Run | list[Run]) -> dict[str, bytes]:
    """An exhibit in each of its formats; `html` is a piece of the page."""
    facts = run.facts if isinstance(run, Run) else {}
    with look():
        made: Table | Figure = exhibit.build(run)
        title, caption = exhibit.text({**facts, **made.facts})
        if isinstance(made, Figure):
            files = {suffix: draw(made, suffix) for suffix in FORMATS}
            body = f'<div class="svg">{inline_svg(files["svg"].decode(), exhibit.name, title)}</div>'
        else:
            texts = {
                "csv": made.csv(),
                "md": made.markdown(title, caption),
                "tex": made.latex(exhibit.name, title, caption),
            }
            files = {suffix: text.encode() for suffix, text in texts.items()}
            label = f'tabindex="0" role="region" aria-label="{escape(title)}"'
            body = f'<div class="scroll" {label}>{made.html()}</div>'
    source = f'<span class="source">{escape(exhibit.source)}</span>' if exhibit.source else ""
    head = f'<h3>{escape(title)}{source}</h3>\n<p class="caption">{escape(caption)}</p>\n'
    return files | {"html": f"{head}{body}\n".encode()}
