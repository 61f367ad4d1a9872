"""The package with the pipeline in it: Snakefile, rules, configurations and miniature bases."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
PROJECT = ("Snakefile", "workflow", "config", "models")


class WithProject(build_py):
    """Copies the pipeline into `remerge/project` of what is built."""

    def run(self) -> None:
        """Build, and copy."""
        super().run()
        if self.editable_mode:
            return
        inside = Path(self.build_lib, "remerge", "project")
        shutil.rmtree(inside, ignore_errors=True)
        inside.mkdir(parents=True)
        for name in PROJECT:
            copy = shutil.copytree if (HERE / name).is_dir() else shutil.copy
            copy(HERE / name, inside / name)


setup(cmdclass={"build_py": WithProject})
