"""Methods in files of a configuration's own."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from projects import settings

import remerge
from remerge import config as configuration
from remerge import dependence, sources
from remerge.__main__ import main
from remerge.config import Config
from remerge.deltas import Deltas
from remerge.errors import UserError
from remerge.methods import _method, find, methods, prepare

MINE = '''"""Half of everything."""

from pathlib import Path

from remerge.deltas import Combined, Deltas
from remerge.methods import Scale, method

Path("ran").touch()


@method(label="Mine", citation="none")
def mine(deltas: Deltas, *, scale: Scale = 0.5) -> Combined:
    """theta_0 + scale · sum_t tau_t."""
    return deltas.combine([scale] * len(deltas.experts))
'''


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of its own; what is known is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "OWN", {})
    (tmp_path / "mine.py").write_text(MINE)
    yield tmp_path
    _method._registry.pop("mine", None)
    for name in [name for name in sys.modules if name.startswith("remerge.methods.own.")]:
        del sys.modules[name]


@pytest.fixture
def written(place: Path) -> Callable[..., Path]:
    """Writes a configuration with these variants and files of methods."""

    def write(*variants: object, files: tuple[str, ...] = ("mine.py",), **defaults: object) -> Path:
        raw = settings() | {"methods": [*files]}
        raw["merge"] = {"variants": ["average", *variants], "defaults": defaults}
        (place / "my.yaml").write_text(yaml.safe_dump(raw))
        return place / "my.yaml"

    return write


def test_one_is_a_method_like_any_other(written: Callable[..., Path], place: Path) -> None:
    config = configuration.load(written({"mine": {"scale": 0.25}}))
    configuration.check(config)
    known = sources.known()["mine"]
    assert (known.family, known.label, known.defaults) == ("own", "Mine", {"scale": 0.5})
    assert find("mine").family == "own" and list(methods())[-1] == "mine"
    base, expert = {"w": torch.zeros(2, 2)}, {"w": torch.ones(2, 2)}
    merged = remerge.methods.merge("mine", base, [expert, expert])
    assert merged["w"].tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("lam", ["scale**2", "scale * len(deltas)", "0.5", "scale if scale < 0.6 else 1"])
def test_one_whose_coefficients_are_not_its_scale_prepares_no_vectors(
    written: Callable[..., Path], place: Path, lam: str
) -> None:
    """What else is in them would be lost, and a merge would be taken for proportional to its scale."""
    (place / "mine.py").write_text(MINE.replace("[scale]", f"[{lam}]"))
    configuration.load(written("mine"))
    states = {name: {"v": torch.ones(2), "w": torch.ones(2, 2)} for name in ("base", "expert")}
    deltas = Deltas(states["base"], {"a": states["expert"], "b": states["expert"]})
    with pytest.raises(UserError, match="method mine: its coefficients are not just its scale"):
        prepare("mine", deltas)
    # Before experts are trained for it.
    with pytest.raises(UserError, match="method mine: its coefficients are not just its scale"):
        configuration.check(configuration.load(written({"divmerge": {"over": "mine"}})))


def test_one_that_needs_statistics_prepares_no_vectors(written: Callable[..., Path], place: Path) -> None:
    given = MINE.replace('"none")', '"none", needs=Needs(statistics="fisher"))')
    given = given.replace("*, scale", "*, statistics: dict, scale").replace(
        "import Scale", "import Needs, Scale"
    )
    (place / "mine.py").write_text(given)
    with pytest.raises(UserError, match="method mine prepares no task vectors: use one that does"):
        configuration.check(configuration.load(written({"divmerge": {"over": "mine"}})))


PLAIN = '''"""A mean that leaves something out."""

import torch

from remerge.deltas import Deltas, Merged
from remerge.methods import method


@method(label="Mine", citation="none")
def mine(deltas: Deltas) -> Merged:
    """theta_0 + the mean."""
    GIVEN
'''
EACH = "yield from ((name, deltas[name].mean(dim=0)) for name in NAMES)"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (EACH.replace("NAMES", "['a', 'b']"), "method mine: no delta for c: give"),
        (EACH.replace("NAMES", "['a', 'c']"), "method mine: a delta for c where one for b is next: give"),
        (EACH.replace("NAMES", "reversed([*deltas])"), "method mine: a delta for c where one for a is next"),
        (EACH.replace("NAMES", "['a', 'b', 'c', 'a']"), "method mine: a delta for a where none is next"),
        (
            "return deltas.subset(deltas.experts, ['a', 'b']).combine([0.5, 0.5])",
            "mine: no delta for c: give",
        ),
        ("yield 'a', torch.ones(1)", r"a: a method makes float32 \[1\] of it, not float32 \[2, 2\]"),
        ("yield 'a', torch.ones(2, 2) > 0", r"a: a method makes bool \[2, 2\] of it, not float32"),
        ("yield 'a', torch.ones(2, 2).numpy()", "a: a method makes ndarray of it, not float32"),
        ("yield 'a', None", "a: a method makes NoneType of it, not float32"),
        ("yield torch.ones(2, 2)", "method mine: it yields a Tensor, not a pair of name and delta: give"),
        ("return dict(deltas)", "method mine: it returns a dict, not pairs of name and delta: give"),
        ("pass", "method mine: it returns a NoneType, not pairs of name and delta: give"),
        ("return deltas.combine([0.5])", r"a: combine has \[0.5\] for 2 experts: give it a number for each"),
        ("return deltas.combine({'a': [0.5, 0.5]})", "b: combine has None for 2 experts"),
        (
            "return deltas.replace(lambda name: deltas[name][:1]).combine([0.5, 0.5])",
            r"a: a method makes float32 \[1, 2, 2\] of it, not float32 \[2, 2, 2\]",
        ),
        ("yield 'a', torch.full((2, 2), torch.nan)", "a: the merge overflows"),
    ],
)
def test_one_that_does_not_give_a_delta_for_every_tensor_in_order_is_refused(
    written: Callable[..., Path], place: Path, given: str, words: str
) -> None:
    """A tensor that it left out would keep what the merge before had written there."""
    (place / "mine.py").write_text(PLAIN.replace("GIVEN", given))
    configuration.load(written("mine"))
    base, expert = ({name: torch.full((2, 2), value) for name in "abc"} for value in (0.0, 1.0))
    with pytest.raises(UserError, match=words):
        remerge.methods.merge("mine", base, [expert, expert])


CHANGES = "it changes {} a in place, from which other merges are made: let it change a clone"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("deltas.base['a'].add_(1)", CHANGES.format("the base's")),
        ("deltas.states['y']['a'].zero_()", CHANGES.format("expert y's")),
        ("torch.rand(1)", "it draws random numbers that no other run repeats"),
        ("import random; random.random()", "it draws random numbers that no other run repeats"),
        ("import numpy; numpy.random.rand()", "it draws random numbers that no other run repeats"),
        ("1 / 0", r"mine\.py:12: ZeroDivisionError: division by zero: correct it"),
        ("deltas['b' * 9]", r"mine\.py:12: KeyError: 'bbbbbbbbb': correct it"),
    ],
)
def test_one_that_fails_or_reaches_beyond_its_merge_is_refused(
    written: Callable[..., Path], place: Path, given: str, words: str
) -> None:
    """The next merge of the process would be another, or this one when it is made again."""
    (place / "mine.py").write_text(PLAIN.replace("GIVEN", f"{given}\n    {EACH.replace('NAMES', 'deltas')}"))
    config = configuration.load(written("mine"))
    base, *experts = ({name: torch.full((2, 2), value) for name in "abc"} for value in (0.0, 1.0, 2.0))
    with pytest.raises(UserError, match=words):
        remerge.methods.merge("mine", base, dict(zip("xy", experts, strict=True)))
    if "'a'" not in given:
        # Tried before anything runs, on a few numbers of another name.
        with pytest.raises(UserError, match=words):
            configuration.check(config)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("return ((name, deltas.base['a']) for name in deltas)", 1.0),
        ("return ((name, deltas.states['x'][name]) for name in deltas)", 1.5),
        ("return deltas.tensorwise(lambda name: deltas.base['a'])", 1.0),
        ("one = torch.ones(2, 2); return ((name, one) for name in deltas)", 1.5),
        ("return ((name, torch.ones(1).expand(2, 2)) for name in deltas)", 1.5),
        ("return ((name, torch.ones(2, 2).half()) for name in deltas)", 1.5),
    ],
)
def test_what_one_gives_is_not_overwritten(
    written: Callable[..., Path], place: Path, given: str, value: float
) -> None:
    """It may be one tensor for several names, or one of the base's or of an expert's."""
    (place / "mine.py").write_text(PLAIN.replace("GIVEN", given))
    configuration.load(written("mine"))
    states = {who: {name: torch.full((2, 2), at) for name in "abc"} for who, at in (("0", 0.5), ("x", 1.0))}
    merged = remerge.methods.merge("mine", states["0"], {"x": states["x"]})
    assert all(theta.eq(value).all() for theta in merged.values())
    assert all(theta.eq(0.5).all() for theta in states["0"].values())
    assert all(theta.eq(1.0).all() for theta in states["x"].values())


def test_one_may_yield_its_deltas(written: Callable[..., Path], place: Path) -> None:
    (place / "mine.py").write_text(PLAIN.replace("GIVEN", EACH.replace("NAMES", "deltas")))
    configuration.load(written("mine"))
    base, expert = ({name: torch.full((2, 2), value) for name in "abc"} for value in (0.0, 1.0))
    merged = remerge.methods.merge("mine", base, [expert, base])
    assert all(theta.eq(0.5).all() for theta in merged.values())


OBJECTIVE = """import random

import torch
from torch import Tensor
from remerge.methods import objective


@objective(label="Mine", citation="none", epochs=1)
def mine(expert: Tensor, merged: Tensor) -> Tensor:
    return LOSS
"""


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        ("merged[:, :1]", r"\[3, 1\]"),
        ("merged.mean()", r"\[\]"),
        ("merged", r"\[3, 5\]"),
        ("None", "of the type NoneType"),
        ("merged[:, 0]", None),
    ],
)
def test_an_objective_gives_a_loss_for_each_position(
    written: Callable[..., Path], place: Path, loss: str, shape: str | None
) -> None:
    """Another shape would be multiplied by the weights of all positions, and summed."""
    (place / "mine.py").write_text(OBJECTIVE.replace("LOSS", loss))
    configuration.load(written("mine"))
    method, merged = find("mine"), torch.rand(3, 5)
    lose = method.objective(method.settings({}))
    if shape is None:
        assert torch.equal(lose(merged[:0], merged), merged[:, 0])
        return
    with pytest.raises(
        UserError, match=rf"method mine: its losses are {shape}, not \[3\]: give one for each"
    ):
        lose(merged[:0], merged)


def test_an_objective_has_a_gradient(written: Callable[..., Path], place: Path) -> None:
    (place / "mine.py").write_text(OBJECTIVE.replace("LOSS", "merged.detach()[:, 0]"))
    configuration.load(written("mine"))
    method, merged = find("mine"), torch.rand(3, 5, requires_grad=True)
    with pytest.raises(UserError, match="method mine: its losses have no gradient: compute them from merged"):
        method.objective(method.settings({}))(merged[:0], merged)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("merged[:, 0] * torch.rand(len(merged))", "it draws random numbers that no other run repeats"),
        ("merged[:, 0] * random.random()", "it draws random numbers that no other run repeats"),
        ("merged[:, 0] / (1 // 0)", r"mine\.py:10: ZeroDivisionError: .*: correct it"),
        ("expert.nothing", r"mine\.py:10: AttributeError: .*: correct it"),
        ("merged.mean()", "its losses are"),
        ("merged.detach()[:, 0]", "its losses have no gradient"),
        ("merged.topk(50).values.sum(dim=1)", None),
    ],
)
def test_an_objective_is_tried_before_a_run(
    written: Callable[..., Path], place: Path, loss: str, words: str | None
) -> None:
    """Coefficients from draws that nothing repeats would be others when a merge is made again."""
    (place / "mine.py").write_text(OBJECTIVE.replace("LOSS", loss))
    config = configuration.load(written("mine"))
    if words is None:
        configuration.check(config)
        return
    with pytest.raises(UserError, match=words):
        configuration.check(config)


def test_two_methods_of_one_label_would_share_a_row(written: Callable[..., Path], place: Path) -> None:
    """Tables look methods up by their labels, the papers' numbers too."""
    (place / "mine.py").write_text(MINE.replace('label="Mine"', 'label="TIES"'))
    with pytest.raises(UserError, match="mine and ties are both called TIES in print: change a label"):
        configuration.load(written("mine", "ties"))
    configuration.load(written("mine", {"mine": {"scale": 0.25}}))


def test_its_file_and_all_that_it_imports_are_the_code_of_its_results(written: Callable[..., Path]) -> None:
    configuration.load(written("mine"))
    files = dependence.sources_of("mine", {})
    assert files[0].name == "mine.py" and sources.PACKAGE / "deltas/experts.py" in files


def test_modules_that_may_be_edited_are_code_of_its_results_too(
    written: Callable[..., Path], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(place / "library")
    for file, text in {
        "halves.py": "import json, torch",
        "lab/__init__.py": "",
        "lab/vectors/sums.py": "from ..norms import norm\nfrom . import signs",
        "lab/vectors/signs.py": "",
        "lab/norms.py": "from .other import nothing",
        "lab/unused.py": "",
        "site-packages/lab2.py": "",
    }.items():
        (place / "library" / file).parent.mkdir(parents=True, exist_ok=True)
        (place / "library" / file).write_text(text)
    (place / "mine.py").write_text(f"import numpy, halves, absent\nfrom lab.vectors import sums\n{MINE}")
    configuration.load(written("mine"))
    names = [str(file) for file in dependence.sources_of("mine", {})]
    library = str(place / "library")
    assert {name.removeprefix(f"{library}/") for name in names if name.startswith(library)} == {
        "halves.py",
        "lab/__init__.py",
        "lab/vectors/sums.py",
        "lab/vectors/signs.py",
        "lab/norms.py",
    }
    assert all(str(sources.PACKAGE) in name for name in names[1:] if not name.startswith(library))


def test_its_parameters_are_checked_where_it_may_run(written: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="method mine: unknown parameter share"):
        configuration.check(configuration.load(written({"mine": {"share": 1}})))
    with pytest.raises(UserError, match="method mine: scale must be"):
        configuration.check(configuration.load(written("mine", mine={"scale": "x"})))


@pytest.mark.parametrize(
    "variants",
    [
        ["mine"],
        [{"mine": {"share": 1}}],
        [{"divmerge": {"over": "mine"}}],
        [{"divmerge": {"over": {"tune": ["ties", "mine@scale=2"]}}}],
    ],
)
def test_remerge_check_runs_none(
    written: Callable[..., Path], place: Path, capsys: pytest.CaptureFixture[str], variants: list[object]
) -> None:
    """It is the safe way to inspect somebody else's configuration."""
    assert main(["check", str(written(*variants))]) == 0
    assert "methods: mine.py: a run executes it, this check does not" in capsys.readouterr().out
    assert not (place / "ran").exists()
    assert "mine" in sources.OWN


def test_what_is_wrong_elsewhere_runs_none_either(
    written: Callable[..., Path], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message lists the methods that prepare task vectors."""
    assert main(["check", str(written("mine", {"divmerge": {"over": "slerp"}}))]) == 2
    assert "slerp prepares no task vectors" in capsys.readouterr().err
    assert not (place / "ran").exists()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("ties.py", MINE.replace("mine", "ties"), "ties.py has the same name: rename one"),
        ("my-method.py", MINE, "my-method.py cannot be named after a method: call it my_method.py"),
        ("_mine.py", MINE, "_mine.py cannot be named after a method"),
        ("mine.smk", MINE, "mine.smk cannot be named after a method"),
        ("gone.py", None, "gone.py is missing: put it there, or leave it out"),
        ("other.py", MINE, "other.py: no def other under @method"),
        ("mine2.py", "def mine2(:", "mine2.py:1: invalid syntax: correct the line"),
    ],
)
def test_a_file_that_is_no_method_is_one_line(
    written: Callable[..., Path],
    place: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str | None,
    words: str,
) -> None:
    if text:
        (place / name).write_text(text)
    assert main(["check", str(written(files=(name,)))]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("import nothing_here", "mine.py:16: ModuleNotFoundError: No module named 'nothing_here': install"),
        ("\n1 / 0", "mine.py:17: ZeroDivisionError: division by zero: correct it"),
    ],
)
def test_a_file_that_fails_is_one_line(
    written: Callable[..., Path], place: Path, more: str, words: str
) -> None:
    (place / "mine.py").write_text(f"{MINE}\n{more}\n")
    config = configuration.load(written("mine"))
    for _ in range(2):
        with pytest.raises(UserError, match=re.escape(words)):
            configuration.check(config)


def test_relative_imports_have_no_package(written: Callable[..., Path], place: Path) -> None:
    (place / "mine.py").write_text(MINE.replace("remerge.deltas", "..deltas"))
    configuration.load(written("mine"))
    with pytest.raises(UserError, match=r"mine.py:5: in no package: write the import in full"):
        dependence.sources_of("mine", {})


def test_a_run_finds_it_wherever_the_project_is_moved(
    written: Callable[..., Path], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration.load(written("mine"))
    config.folder.mkdir(parents=True)
    (config.folder / "config.yaml").write_text(configuration.dump(config))
    shutil.copytree(place, place / "moved")
    monkeypatch.chdir(place / "moved")
    monkeypatch.setattr(sources, "OWN", {})
    again = configuration.load(Path("results/seconds/config.yaml"))
    assert (again.methods, again.own) == (config.methods, {"mine"})
    assert sources.OWN["mine"] == place / "moved/mine.py"


def test_two_projects_may_have_the_same_file_but_not_another_of_its_name(place: Path) -> None:
    """Their runs are compared in one process."""
    for name, text in (("a", MINE), ("b", MINE), ("c", MINE.replace("0.5", "0.6"))):
        (place / name).mkdir()
        (place / name / "mine.py").write_text(text)
    sources.add([place / "a/mine.py", place / "b/mine.py"])
    assert find("mine").parameters["scale"].default == 0.5
    with pytest.raises(ValueError, match=r"c/mine.py: .*b/mine.py has the same name: rename one"):
        sources.add([place / "c/mine.py"])
    (place / "b/mine.py").unlink()
    sources.add([place / "c/mine.py"])
    assert find("mine").parameters["scale"].default == 0.6


def test_paths_are_those_of_the_file_that_names_them(place: Path) -> None:
    (place / "below").mkdir()
    (place / "mine.py").rename(place / "below/mine.py")
    raw = settings() | {"methods": ["mine.py"]}
    (place / "below/base.yaml").write_text(yaml.safe_dump(raw))
    (place / "my.yaml").write_text("include: below/base.yaml\nmerge: {variants: [mine]}\n")
    config: Config = configuration.load(place / "my.yaml")
    assert config.methods == [Path("below/mine.py")] and config.known["mine"].file.is_file()
