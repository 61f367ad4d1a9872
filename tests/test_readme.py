"""What the README shows is what is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_shown_method_is_the_file():
    shown = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown
    assert shown.group(1) == (ROOT / "src/remerge/methods/linear/average.py").read_text()


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
