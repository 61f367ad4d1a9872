"""The site's pages, filled in from elsewhere: README, whole files, the schema, the papers' settings.

A line of its own in a page says what belongs there:

    <!-- README.md -->               a file below its title; of README, what comes before its first section
    <!-- README.md: In Python -->    one section of a file
    <!-- made: methods -->           the text that a function here makes

Links lead to the page that holds the file they name; a link to a file without a page becomes plain text.
"""

import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MADE = ROOT / ".docs"
"""Where `make docs` writes what commands print."""

PAGES = {
    "README.md": "index.md",
    "results/README.md": "reference/records.md",
    "config/README.md": "reference/benchmarks.md",
    "config/schema.json": "reference/configuration.md",
    "SECURITY.md": "explanation/security.md",
    "DEVELOPERS.md": "explanation/code.md",
    "docs/own-rule": "own-rule/README.md",
}
"""Which page holds a file of the repository's, of those that lie outside the pages' folder."""

LINE = re.compile(r"^<!-- (?P<source>[\w./-]+)(?:: (?P<part>.+))? -->$", re.MULTILINE)
LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?!https?:|#)(?P<target>[^)\s#]+)(?P<anchor>#[^)]*)?\)")
FENCE = re.compile(r"^ *```")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A page's markdown, filled in: MkDocs calls this for each."""
    return filled(markdown, page.file.src_uri)


def filled(markdown: str, page: str) -> str:
    """A page with everything that its lines ask for.

    Args:
        markdown: as it stands in its file.
        page: that file, from the pages' folder.

    Raises:
        KeyError, FileNotFoundError: a line asks for something that does not exist.
    """

    def replace(found: re.Match[str]) -> str:
        source, part = found["source"], found["part"]
        if source == "made":
            return MAKERS[part]()
        text = (ROOT / source).read_text()
        if not source.endswith(".md"):
            return text.rstrip()
        body = sections(text)[part] if part else whole(text, intro=source == "README.md")
        return linked(body, Path(source).parent, page)

    # A page's own links count from its folder, those of an included text from that text's folder.
    own = linked(markdown, (Path("docs") / page).parent, page)
    return LINE.sub(replace, own)


def sections(text: str) -> dict[str, str]:
    """The sections of a markdown file by their titles, each with those inside it."""
    lines = list(_lines(text))
    titles = [
        (i, len(found[1]), found[2])
        for i, (line, fenced) in enumerate(lines)
        if not fenced and (found := re.match(r"(#+) (.+)", line))
    ]
    found = {}
    for start, level, title in titles:
        end = next((i for i, other, _ in titles if i > start and other <= level), len(lines))
        found[title] = "\n".join(line for line, _ in lines[start + 1 : end]).strip()
    return found


def whole(text: str, intro: bool = False) -> str:
    """A markdown file below its title, as far as its first section if only its opening is asked for."""
    below = text.split("\n", 1)[1].strip()
    return below.split("\n## ", 1)[0].strip() if intro else below


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """The lines of a file, and whether they are code."""
    fenced = False
    for line in text.splitlines():
        edge = bool(FENCE.match(line))
        yield line, fenced or edge
        fenced ^= edge


def linked(text: str, folder: Path, page: str) -> str:
    """The links of a text that stands in a folder of the repository, for a page of the site."""

    def replace(found: re.Match[str]) -> str:
        target = os.path.normpath(folder / found["target"])
        inside = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        if inside is None:
            return f"`{target}`" if found["text"].strip("[]`") == target else found["text"].strip("[]")
        there = os.path.relpath(inside, Path(page).parent)
        return f"{found['text']}({there}{found['anchor'] or ''})"

    return LINK.sub(replace, text)


BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
"""The schema's keys of ranges, in words."""

LARGE = 1e6
"""Bounds from here on only guard against typing errors, and are not shown."""


def configuration() -> str:
    """Every key of a configuration, of its schema: a section for each part."""
    schema = json.loads((ROOT / "config/schema.json").read_text())
    parts = {"The file": schema, **schema["$defs"]}
    del parts["JsonValue"]
    return "\n\n".join(_part(name, part) for name, part in parts.items())


def _part(name: str, part: dict[str, Any]) -> str:
    title = [f"## {name}\n", part.get("description", "").split("\n")[0], ""]
    if "properties" not in part:
        return "\n".join(title)
    rows = ["| key | type | default | what |", "| --- | --- | --- | --- |"]
    for key, value in part["properties"].items():
        # A file may leave any key to the one that it includes: the schema requires none.
        default = _default(value) if "default" in value else "*required*"
        rows.append(f"| `{key}` | {_type(value)} | {default} | {_cell(value.get('description', ''))} |")
    return "\n".join([*title, *rows])


def _type(value: dict[str, Any]) -> str:
    """A type of the schema in words."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return "any" if name == "JsonValue" else f"[{name}](#{name.lower()})"
    if options := value.get("anyOf") or value.get("allOf"):
        return " or ".join(_type(option) for option in options if option.get("type") != "null")
    if "enum" in value or "const" in value:
        return " or ".join(f"`{option}`" for option in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}" if value.get("items") else "list"
    if value.get("type") == "object":
        inner = value.get("additionalProperties") or next(
            iter(value.get("patternProperties", {}).values()), None
        )
        return f"mapping to {_type(inner)}" if isinstance(inner, dict) else "mapping"
    bounds = [f"{word} {value[key]:g}" for key, word in BOUNDS.items() if abs(value.get(key, 1e9)) < LARGE]
    return " ".join([value.get("type", "any"), *bounds])


def _default(value: dict[str, Any]) -> str:
    """A default as it is written; of a part its own section says them, and null stands for nothing."""
    default = value.get("default")
    plain = default is not None and "$ref" not in value
    return f"`{json.dumps(default, ensure_ascii=False)}`" if plain else ""


def _cell(text: str) -> str:
    """A description in a cell: brackets and bars as they are."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def table9() -> str:
    """The settings that DivMerge's Table 9 gives, its two benchmarks side by side."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    with (ROOT / "src/remerge/exhibits/divmerge/table9.csv").open() as file:
        for row in csv.DictReader(file):
            found.setdefault((row["row"], row["column"]), {})[row["benchmark"]] = row["value"]
    names = ("divmerge-glue", "divmerge-generation")
    rows = ["| of | setting | classification | generation |", "| --- | --- | --- | --- |"]
    rows += [
        f"| {of} | {setting} | {' | '.join(values.get(name, '') for name in names)} |"
        for (of, setting), values in found.items()
    ]
    return "\n".join(rows)


def settings() -> str:
    """For each configuration of a paper, the remarks at its head, and its own choices."""
    parts = []
    for file in sorted((ROOT / "config").glob("*.yaml")):
        lines = file.read_text().splitlines()
        if file.stem.startswith("demo") or file.stem == "own":
            continue
        end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
        told = [line.removeprefix("#").strip() for line in lines[:end]]
        prose = "\n".join(line for line in told if not line.startswith("Lines marked"))
        parts.append("\n\n".join([f"## {file.stem}", prose, *_choices(lines[end:])]))
    return "\n\n".join(parts)


def _choices(lines: list[str]) -> Iterator[str]:
    """The settings that are marked as a choice of ours, each with the comment that says so."""
    above: list[str] = []
    for line in lines:
        setting, _, beside = line.partition("# ")
        if not setting.strip():
            above.append(beside)
            continue
        if "our choice" in (said := " ".join([*above, beside]).strip()).lower():
            yield f"- `{setting.strip().removeprefix('- ').removesuffix(':')}`: {said}"
        above = []


def methods() -> str:
    """The output of `remerge methods --markdown`."""
    return (MADE / "methods.md").read_text()


def help() -> str:
    """The output of `remerge --help`."""
    return f"```text\n{(MADE / 'help.txt').read_text().rstrip()}\n```"


MAKERS: dict[str, Callable[[], str]] = {
    "configuration": configuration,
    "table9": table9,
    "settings": settings,
    "methods": methods,
    "help": help,
}
