"""The packages that numbers depend on, in the versions of this environment."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "peft", "safetensors", "numpy", "scipy")


@cache
def version_of(package: str) -> str | None:
    """A package's version; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """The versions of Python and of the installed packages."""
    found = {package: version_of(package) for package in packages}
    return {"python": platform.python_version(), **{p: v for p, v in found.items() if v}}
