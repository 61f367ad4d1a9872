"""Running the files of methods, which registers what they define."""

import importlib
import importlib.util
import sys
from pathlib import Path

from remerge import sources
from remerge.errors import UserError, cause_of


def run(file: Path) -> None:
    """Run a method's file, once.

    Raises:
        UserError: a file of a configuration's own fails.
    """
    if not file.is_relative_to(sources.METHODS):
        _run_own(file)
        return
    path = file.relative_to(sources.METHODS).with_suffix("")
    importlib.import_module(".".join([__package__, *path.parts]))


def _run_own(file: Path) -> None:
    name = f"{__package__}.own.{file.stem}"
    if name in sys.modules and sys.modules[name].__file__ == str(file):
        return
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        if isinstance(error, UserError):
            raise
        absent = isinstance(error, ModuleNotFoundError)
        remedy = "install it, or put its folder into PYTHONPATH" if absent else "correct it"
        failed = sources.failure_in_own(error) or f"{file}: {cause_of(error)}"
        raise UserError(f"{failed}: {remedy}") from error
