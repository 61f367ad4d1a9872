"""What is read of methods from their files is what importing them says; what results follow from."""

from pathlib import Path

import pytest

from remerge import dependence, sources
from remerge.errors import UserError
from remerge.methods import methods

METHOD = '''"""Mine."""

from remerge.methods import Needs, Range, method


@method(
    needs=Needs(
        statistics="grams",
        experts=3,
    ),
    citation="none "
    "at all",
    label="Mine",
)
def mine(deltas, *, statistics, share=-0.5, by: str, over=("a", 1)):
    """Mine."""
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder of methods that holds one, and how to write it."""
    monkeypatch.setattr(sources, "METHODS", tmp_path / "methods")
    file = tmp_path / "methods/mine.py"
    file.parent.mkdir()

    def write(text):
        file.write_text(text)
        return file

    return write


def test_files_agree_with_the_registry():
    known = sources.known()
    assert list(known) == list(methods())
    for name, method in methods().items():
        read = known[name]
        assert (read.name, read.family, read.label) == (name, method.family, method.label)
        assert (read.citation, read.learned, read.answers) == (
            method.citation,
            method.learned,
            method.needs.answers,
        )
        assert (read.experts, read.statistics) == (method.needs.experts, method.needs.statistics)
        assert read.defaults == {p.name: p.default for p in method.parameters.values() if not p.required}
        assert list(read.defaults) == [p.name for p in method.parameters.values() if not p.required]


def test_labels_are_distinct():
    labels = [method.label for method in sources.known().values()]
    assert len(set(labels)) == len(labels)
    assert sources.known()["drm_h"].label == "DRM-H"


def test_defaults_of_learning_are_table_9s():
    """DivMerge, Table 9: initial coefficient 0.5 for all, 4 epochs of KL and JS, 5 of AdaMerging."""
    known = sources.known()
    assert [known[name].defaults["epochs"] for name in ("divmerge", "adamerging")] == [4, 5]
    assert known["divmerge"].defaults["initial"] == 0.5
    assert known["divmerge"].defaults["divergence"] == "js"


def test_a_decorator_over_lines(mine):
    file = mine(METHOD)
    assert sources.known()["mine"] == sources.Known(
        name="mine",
        file=file,
        family="own",
        label="Mine",
        citation="none at all",
        learned=False,
        answers=False,
        experts=3,
        statistics="grams",
        whole=False,
        defaults={"share": -0.5, "over": ("a", 1)},
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("@method(", "@other(", r"mine.py: no def mine under @method\(…\) or @objective\(…\)"),
        ("def mine", "def yours", r"mine.py: no def mine under"),
        ('label="Mine"', 'label=f"{1}"', r"mine.py:\d+: label is f'\{1\}': write out the value"),
        ('    label="Mine",\n', "", "mine.py:6: the decorator has no label: add it"),
        (
            "experts=3",
            "expert=3",
            r"mine.py:7: write needs=Needs\(…\), with any of experts, answers, statistics",
        ),
        ("experts=3", "experts=len([1])", r"mine.py:9: needs: experts is len\(\[1\]\): write out the value"),
        ("Needs(", "dict(", r"mine.py:7: write needs=Needs\(…\)"),
        ("share=-0.5", "share=HALF", "mine.py:15: share is HALF: write out the value"),
        ("@method(", "@method(*given, ", "mine.py:6: write the decorator's arguments as name=value"),
        ("@method(", "@method(**given, ", "mine.py:6: write the decorator's arguments as name=value"),
        ("@method(", "@objective(", "mine.py:6: the decorator has no epochs: add it"),
        ("def mine(", "def mine((", "mine.py:15: "),
    ],
)
def test_what_cannot_be_read_is_refused(mine, old, new, message):
    assert old in METHOD
    mine(METHOD.replace(old, new))
    with pytest.raises(UserError, match=message):
        sources.known()


def test_two_files_of_one_name(mine):
    file = mine(METHOD)
    (file.parent / "more").mkdir()
    (file.parent / "more/mine.py").write_text(METHOD)
    with pytest.raises(UserError, match=r"more/mine.py: .*methods/mine.py has the same name"):
        sources.known()


def names(files):
    return [file.relative_to(sources.PACKAGE).as_posix() for file in files]


DELTAS = {f"deltas/{name}.py" for name in ("__init__", "experts", "fitting", "merged", "tensors")}
OF_METHODS = {
    f"methods/{name}.py"
    for name in ("__init__", "_contained", "_learning", "_made", "_method", "_parameters", "_running")
}
CORE = DELTAS | OF_METHODS | {"variants.py"}


def test_what_a_method_follows_from():
    files = names(dependence.sources_of("ties", {}))
    assert files[0] == "methods/interference/ties.py"
    own = {f"methods/interference/{name}.py" for name in ("ties", "_interference", "_random", "_select")}
    assert set(files) == CORE | own
    assert len(files) == len(set(files))
    assert set(names(dependence.sources_of("average", {}))) == CORE | {"methods/linear/average.py"}
    drm = set(names(dependence.sources_of("drm_v", {})))
    assert "methods/decomposition/_drm.py" in drm
    assert "methods/decomposition/drm_h.py" not in drm


def test_what_a_learned_method_follows_from():
    files = names(dependence.sources_of("divmerge", {}))
    assert files[0] == "methods/learned/divmerge.py"
    assert CORE | {"measures/divergence.py"} <= set(files)
    assert not any("interference" in file for file in files)
    over = names(dependence.sources_of("adamerging", {"over": "ties@aggregate=sum"}))
    assert {"methods/interference/ties.py", "methods/interference/_select.py"} <= set(over)


def test_what_every_merge_of_a_plan_follows_from():
    files = set(names(dependence.closure(*dependence.merging("negation"))))
    assert {
        "stages/_loaded.py",
        "stages/_bench.py",
        "learn.py",
        "records/scores.py",
        "plans/negation.py",
    } <= files
    assert not any(file.startswith(("report/", "exhibits/", "plans/subsets")) for file in files)
    # Else editing one method would make the merges of all again.
    assert not files & {*names([known.file for known in sources.known().values()])}
    assert "measures/curvature.py" in files  # for methods that need statistics


def test_closure_leaves_plumbing_out():
    files = names(dependence.closure(sources.PACKAGE / "stages/merges.py"))
    assert {"stages/_bench.py", "learn.py", "families/__init__.py"} <= set(files)
    assert not any(Path(file).parts[0] in ("errors.py", "files.py", "config", "journal.py") for file in files)
    assert "__init__.py" not in files


def test_closure_of_every_way_to_import(tmp_path, monkeypatch):
    texts = {
        "a": "import remerge.one.b\nimport torch",
        "one/__init__": "",
        "one/b": "from . import c\nfrom .d import x",
        "one/c": "from ..two import e as f",
        "one/d": "def g():\n    from remerge.two.h import x",
        "two/e": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from remerge.i import x",
        "two/h": "import importlib\nimportlib.import_module('remerge.i')\nfrom remerge.errors import x",
        "i": "",
        "errors": "",
        "__init__": "",
    }
    package = tmp_path / "remerge"
    for name, text in texts.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").write_text(text)
    monkeypatch.setattr(sources, "PACKAGE", package)
    found = [
        file.relative_to(package).with_suffix("").as_posix() for file in dependence.closure(package / "a.py")
    ]
    assert found[0] == "a"
    assert sorted(found) == ["a", "one/__init__", "one/b", "one/c", "one/d", "two/e", "two/h"]


def test_an_edited_file_is_read_again(mine):
    mine(METHOD)
    assert sources.known()["mine"].label == "Mine"
    mine(METHOD.replace('label="Mine"', 'label="Mine, again"'))
    assert sources.known()["mine"].label == "Mine, again"
