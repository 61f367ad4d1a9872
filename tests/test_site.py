"""The site's pages, without MkDocs: all that they name is there, and every command that they show is one."""

import importlib.util
import os
import re
from pathlib import Path

import pytest
import yaml

from remerge.__main__ import _commands
from remerge.records import Data, Score
from remerge.records._record import Part

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
SHOWING = [*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "DEVELOPERS.md", "SECURITY.md"))]
SHOWING += [ROOT / "config/README.md", ROOT / "results/README.md", ROOT / "CONTRIBUTING.md"]


def pages(part):
    if isinstance(part, str):
        return [part]
    inside = part.values() if isinstance(part, dict) else part
    return [page for below in inside for page in pages(below)]


@pytest.fixture
def site(tmp_path):
    spec = importlib.util.spec_from_file_location("_site", DOCS / "_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.MADE = tmp_path
    for name in ("methods.md", "help.txt"):
        (tmp_path / name).write_text("made\n")
    return module


def test_every_page_is_in_the_nav_and_there():
    assert sorted(pages(NAV)) == sorted(str(file.relative_to(DOCS)) for file in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", pages(NAV))
def test_all_that_a_page_names_is_there(site, page):
    filled = site.filled((DOCS / page).read_text(), page)
    assert not re.search("^<!-- ", filled, re.MULTILINE)
    code = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", code.sub("", filled)):
        assert (DOCS / os.path.normpath(Path(page).parent / target)).is_file(), target


def test_sections_end_where_the_next_begins(site):
    text = "# T\n\nopening\n\n## A\n\na\n\n### B\n\n```sh\n## no title\n```\n\n## C\nc\n"
    found = site.sections(text)
    assert found["B"] == "```sh\n## no title\n```" and found["C"] == "c"
    assert found["A"].startswith("a\n\n### B")
    assert site.whole(text, intro=True) == "opening"


def test_every_key_of_the_configuration_has_its_row(site):
    text = site.configuration()
    assert (
        "| `source` | string | *required* | a hub id, a local folder, or `miniature`, trained here |" in text
    )
    assert "| `tasks` | mapping to [Task](#task) | *required* |" in text


def test_every_choice_that_a_paper_leaves_to_us_is_told(site):
    told = " ".join(site.settings().split())
    for file in (ROOT / "config").glob("*.yaml"):
        if file.stem.startswith(("demo", "own")):
            continue
        for line in file.read_text().splitlines():
            _, _, said = line.partition("# ")
            if "our choice" in said.lower() and not said.startswith("Lines marked"):
                assert said.strip() in told, file.name


def test_every_module_has_its_place_in_the_table():
    told = (ROOT / "DEVELOPERS.md").read_text()
    for file in (ROOT / "src/remerge").iterdir():
        name = f"{file.name}/" if file.is_dir() else file.name
        assert f"`{name}`" in told or file.name in ("__init__.py", "__pycache__", "py.typed"), name


def test_every_record_is_described():
    told = (ROOT / "results/README.md").read_text()
    parts = [part for kind in Part.__subclasses__() for part in (kind, *kind.__subclasses__())]
    assert Data in parts and Score in parts
    for part in parts:
        for key in part.model_fields:
            assert re.search(f'["`]{key}["`]', told), (part.__name__, key)


def shown(text):
    """The lines of code in a text that call remerge."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(remerge [^`\n]+)`", text)
    return [line.split("#")[0].split("|")[0].strip() for line in lines if line.startswith("remerge ")]


@pytest.mark.parametrize("file", SHOWING, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_command_shown_is_one(file):
    commands = _commands().commands.choices
    for line in shown(file.read_text()):
        _, command, *words = line.split()
        if command == "--version":
            continue
        assert command in commands, line
        known = commands[command]._option_string_actions
        for word in words:
            if word == "--":
                break
            assert not word.startswith("-") or word in known or command in ("run", "demo"), line


def test_every_target_of_make_shown_is_one():
    made = re.findall(r"^([a-z-]+|demo-%):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for file in SHOWING:
        for target in re.findall(r"`make ([a-z0-9-]+)[` ]|^make ([a-z-]+)", file.read_text(), re.MULTILINE):
            name = target[0] or target[1]
            assert name in made or name.startswith("demo-"), (file, name)
