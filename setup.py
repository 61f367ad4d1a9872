"""The package with the pipeline in it: Snakefile, rules, configurations and miniature bases."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
PROJECT = ("Snakefile", "workflow", "config", "models/miniature-*")


class WithProject(build_py):
    """Copies the pipeline into `remerge/project` of what is built."""

    def run(self) -> None:
        """Build, and copy."""
        super().run()
        if self.editable_mode:
            return
        inside = Path(self.build_lib, "remerge", "project")
        shutil.rmtree(inside, ignore_errors=True)
        copy_project(inside)


def copy_project(inside: Path) -> None:
    """Copy the pipeline; models that were made here (`models/packaged.py`) are left out."""
    for found in [path for pattern in PROJECT for path in sorted(HERE.glob(pattern))]:
        place = inside / found.relative_to(HERE)
        place.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if found.is_dir() else shutil.copy
        copy(found, place)


setup(cmdclass={"build_py": WithProject})
