"""What is imported is declared."""

import ast
import fnmatch
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path, PurePosixPath

import pytest
import setuptools
import yaml

ROOT = Path(__file__).parent.parent


def test_every_imported_third_party_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split("[<>=]", asked)[0] for asked in project["dependencies"]]
    declared = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    owners = packages_distributions()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {name.partition(".")[0] for name in names} - {"remerge", *sys.stdlib_module_names}:
                found = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners[top]}
                assert found & declared, f"{file}: {top}"


def test_the_wheel_carries_what_is_read_beside_the_code() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package = ROOT / "src/remerge"
    carried = {file for pattern in patterns["remerge"] for file in package.glob(pattern)}
    beside = {f for f in package.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")}
    assert beside <= carried


def test_the_wheel_carries_the_pipeline_and_no_model_that_was_made_here(tmp_path, monkeypatch) -> None:
    kept = {"Snakefile", "workflow/rules/base.smk", "config/demo.yaml", "models/miniature-t5/config.json"}
    for name in {*kept, "models/packaged.py", "models/minilm/model.safetensors"}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / "setup.py", tmp_path)
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    inside = tmp_path / "built"
    runpy.run_path(str(tmp_path / "setup.py"))["copy_project"](inside)
    assert {str(f.relative_to(inside)) for f in inside.rglob("*") if f.is_file()} == kept


def test_the_image_carries_every_file_of_the_repository() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("the image itself: it has no repository")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    # As Docker reads them: the last pattern that matches a path or a folder above it decides; a trailing
    # slash means nothing.
    patterns = [line.rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines()]
    for name in listed.stdout.splitlines():
        carried = True
        for pattern in patterns:
            path = PurePosixPath(name)
            if any(fnmatch.fnmatch(str(at), pattern.removeprefix("!")) for at in (path, *path.parents)):
                carried = pattern.startswith("!")
        assert carried, name


def test_the_environment_installs_the_locked_versions_as_pip_reads_files() -> None:
    """Conda writes the lines into a file for pip, in which --no-deps, for one, is refused."""
    parts = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (lines,) = [part["pip"] for part in parts if isinstance(part, dict)]
    assert lines == ["-r requirements.lock", "-e ."]
    (python,) = [part for part in parts if str(part).startswith("python ")]
    locked = (ROOT / "requirements.lock").read_text().splitlines()[0]
    assert f"(Python {python.removeprefix('python =')})" in locked
