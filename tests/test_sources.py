"""What is read of methods from their files is what importing them says."""

from remerge import sources
from remerge.methods import methods


def names(method, **params):
    return [file.name for file in sources.sources_of(method, params)]


def test_what_depends_on_which_file():
    files = names("divmerge")
    assert files[0] == "divmerge.py"
    assert {"learn.py", "divergence.py", "experts.py", "merged.py"} <= set(files)
    assert "learn.py" not in names("average")
    over = names("adamerging", over="ties@aggregate=sum")
    assert {"ties.py", "_interference.py", "_select.py"} <= set(over)
    assert sources.statistics_of("regmean") == "grams"


def test_files_agree_with_the_registry():
    assert set(sources.method_files()) == set(methods())
    for name, method in methods().items():
        assert sources.learns(name) == method.learned
        assert sources.statistics_of(name) == (method.needs[1] if "statistics" in method.needs else None)
