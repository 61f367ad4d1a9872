"""Which merges plans make, who judges them, and what they call better."""

from itertools import permutations

import pytest
from pydantic import ValidationError

from remerge.plans import Case, Unmerged, known
from remerge.plans.analogy import Analogy
from remerge.plans.negation import Negation
from remerge.plans.subsets import Subsets

TASKS = ["sst2", "cola", "mnli", "rte"]


def names(groups):
    return {group: [case.name for case in cases] for group, cases in groups.items()}


def test_plans_are_found_by_their_files():
    assert known() == {"analogy": Analogy, "negation": Negation, "subsets": Subsets}


def test_every_subset_from_pairs_on():
    found = names(Subsets().cases(TASKS, 0))
    assert [len(cases) for cases in found.values()] == [6, 4, 1]
    assert found["2"][:2] == ["cola+mnli", "cola+rte"]


def test_a_sample_of_each_size_depends_on_the_seed_alone():
    first, again, other = (
        names(Subsets(at_most=3, sizes=[2, 4]).cases(tasks, seed))
        for tasks, seed in ((TASKS, 1), (TASKS[::-1], 1), (TASKS, 2))
    )
    assert first == again != other
    assert [len(set(cases)) for cases in first.values()] == [3, 1]
    assert set(first["2"]) < set(names(Subsets().cases(TASKS, 1))["2"])


def test_named_subsets_and_their_judges():
    found = Subsets(only=["rte+cola", "cola+mnli+rte"], judged=["sst2"]).cases(TASKS, 0)
    assert names(found) == {"2": ["cola+rte"], "3": ["cola+mnli+rte"]}
    assert found["2"][0].judged == ("cola", "rte", "sst2")
    every = Subsets(judged="all").cases(TASKS, 0)["2"][0]
    assert (every.tasks, every.judged) == (("cola", "mnli"), ("cola", "mnli", "sst2", "rte"))


def test_tuned_on_the_largest_merge_or_on_those_named():
    plan = Subsets()
    assert [case.name for case in plan.tuning(plan.cases(TASKS, 0))] == ["cola+mnli+rte+sst2"]
    plan = Subsets(tune_on=["cola+sst2"])
    assert plan.tuning(plan.cases(TASKS, 0)) == [Case("cola+sst2", {"cola": 1, "sst2": 1}, ("cola", "sst2"))]


def test_sizes_are_made_in_ascending_order_whatever_the_order_they_are_written_in():
    plan = Subsets(sizes=[3, 2, 3])
    assert list(plan.cases(TASKS, 0)) == ["2", "3"]
    assert len(plan.tuning(plan.cases(TASKS, 0))[0].tasks) == 3


def test_the_merit_of_subsets_is_anp():
    case = Case("a+b", {"a": 1, "b": 1}, ("a", "b"))
    unmerged = Unmerged(own={"a": 0.8, "b": 0.5}.__getitem__, base=lambda task: 0.0)
    assert Subsets().merit(case, {"a": 0.4, "b": 0.5}, unmerged) == pytest.approx(75)
    # Settings that are as good in another order are equal, and the first is chosen.
    case, alike = Case("a+b+c", dict.fromkeys("abc", 1), ("a", "b", "c")), Unmerged(lambda _: 1, lambda _: 0)
    scores = (dict(zip("abc", values, strict=True)) for values in permutations((0.1, 0.2, 0.3)))
    assert len({Subsets().merit(case, some, alike) for some in scores}) == 1


def test_negation_forgets_its_task_and_keeps_95_percent_of_the_controls():
    (case, *rest) = Negation(tasks=["cola"], controls=["mnli", "rte"]).cases(TASKS, 0)["negation"]
    assert not rest
    assert (case.name, dict(case.signs), case.judged) == ("-cola", {"cola": -1}, ("cola", "mnli", "rte"))
    unmerged = Unmerged(own=lambda task: 1.0, base=lambda task: 0.5)

    def merit(target, mnli, rte):
        return Negation().merit(case, {"cola": target, "mnli": mnli, "rte": rte}, unmerged)

    assert merit(0.1, 0.5, 0.48) > merit(0.3, 0.5, 0.5) > merit(0.0, 0.5, 0.47) > merit(0.0, 0.5, 0.1)
    # Of a control on which the base is never right, nothing can be lost.
    unmerged = Unmerged(own=lambda task: 1.0, base={"mnli": 0.5, "rte": 0.0}.__getitem__)
    assert merit(0.1, 0.5, 0.0) > merit(0.3, 0.5, 0.0) > merit(0.0, 0.4, 0.0)


def test_an_analogy_is_judged_on_its_fourth_task():
    plan = Analogy(a="cola", b="mnli", c="rte", d="sst2")
    ((case,),) = plan.cases(TASKS, 0).values()
    assert dict(case.signs) == {"rte": 1, "mnli": 1, "cola": -1}
    assert (case.name, case.judged) == ("rte+mnli-cola", ("sst2",))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (lambda: Subsets(sizes=[5]), "5 is more than the 4 tasks"),
        (lambda: Subsets(only=["cola+x"]), "unknown task 'x'"),
        (lambda: Subsets(judged=["x"]), "unknown task 'x'"),
        (lambda: Subsets(only=["cola+rte", "rte+cola"]), "only: cola\\+rte is given twice"),
        (lambda: Subsets(only=["cola+cola"]), "only: cola\\+cola: cola is given twice"),
        (lambda: Subsets(only=["cola+rte"], sizes=[3]), "leave out sizes and at_most"),
        (lambda: Subsets(only=["cola+rte"], at_most=1), "leave out sizes and at_most"),
        (lambda: Subsets(tune_on=["cola+rte", "rte+cola"]), "tune_on: cola\\+rte is given twice"),
        (lambda: Negation(controls=["x"]), "unknown task 'x'"),
        (lambda: Negation(tasks=["cola", "cola"]), "tasks: cola is given twice"),
        (lambda: Negation(controls=["cola"]), "controls: cola is to be forgotten: name another"),
        (lambda: Analogy(a="cola", b="cola", c="rte", d="sst2"), "four different tasks"),
    ],
)
def test_plans_that_do_not_fit_the_tasks(plan, words):
    with pytest.raises(ValueError, match=words):
        plan().cases(TASKS, 0)


def test_merges_to_tune_on_are_those_of_their_tasks_in_whatever_order():
    (case,) = Subsets(tune_on=["sst2+cola"]).tuning({})
    assert (case.name, case.tasks) == ("cola+sst2", ("cola", "sst2"))


@pytest.mark.parametrize("given", [{"sizes": [True]}, {"at_most": True}, {"sizes": [0]}])
def test_a_switch_is_no_number(given):
    with pytest.raises(ValidationError):
        Subsets(**given)


def test_an_unknown_key_is_refused():
    with pytest.raises(ValidationError):
        Subsets(size=[2])
