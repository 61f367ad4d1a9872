"""What is known of merge methods from their files alone, without importing them and with them torch.

The workflow plans its rules by this: their inputs, and the stages that a method needs.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METHODS = Path(__file__).parent / "methods"


def method_files() -> dict[str, Path]:
    """Every merge method's own file, found by its name without importing it."""
    return {file.stem: file for file in sorted(METHODS.rglob("*.py")) if file.stem[0] != "_"}


def learns(method: str) -> bool:
    """Whether a method's coefficients are learned, read from its file without importing it."""
    return re.search(r"^@objective\b", method_files()[method].read_text(), re.MULTILINE) is not None


def statistics_of(method: str) -> str | None:
    """Which statistics of the experts a method takes (a function of `remerge.measures.curvature`), if any."""
    text = method_files()[method].read_text()
    needs = re.search(r"^@method\b.*needs=\(\"statistics\", \"(\w+)\"\)", text, re.MULTILINE)
    return needs.group(1) if needs else None


def sources_of(method: str, params: Mapping[str, Any]) -> list[Path]:
    """The files that a method's results follow from: its methods' own, what these import, the core's."""
    over = str(params.get("over", "")).partition("@")[0]
    files = [method_files()[name] for name in (method, over) if name in method_files()]
    for file in files:
        for module in re.findall(r"^from remerge\.methods\.(\S+) import", file.read_text(), re.MULTILINE):
            imported = METHODS.joinpath(*module.split(".")).with_suffix(".py")
            if imported not in files:
                files.append(imported)
    core = ["deltas/*.py", *(["learn.py", "measures/divergence.py"] if learns(method) else [])]
    return [*files, *(file for pattern in core for file in sorted(METHODS.parent.glob(pattern)))]
