"""Batches: the choices and merges of one process, which loads base, experts and inputs once.

With `shards` above 1, several processes share each batch: their results go to journals, from which the
batch's own process writes the records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from remerge.config import Config, Variant
from remerge.errors import UserError, unknown


@dataclass(frozen=True)
class Share:
    """The part of a batch that belongs to one of several processes.

    Attributes:
        choices: plans and variants, each with a range of the trials of its choice.
        merges: variants and groups, each with a range of the group's merges.
    """

    choices: tuple[tuple[str, Variant, slice], ...]
    merges: tuple[tuple[Variant, str, slice], ...]


@dataclass(frozen=True)
class Batch:
    """The choices and merges of one process.

    Attributes:
        name: a method or a learned variant; ``select/ties`` if other processes make the choices first.
        method: the method of all its merges.
        choices: plans and the variants whose parameters are chosen for them, before any merge.
        merges: variants and the groups of merges that they make, in order.
    """

    name: str
    method: str
    choices: tuple[tuple[str, Variant], ...]
    merges: tuple[tuple[Variant, str], ...]

    def shares(self, config: Config) -> list[Share]:
        """The parts of `shards` processes, with equal work; none if one process makes all."""
        if config.shards == 1:
            return []
        trials = [_work_of_choice(config, *choice) for choice in self.choices]
        merges = [_work_of_merges(config, *made) for made in self.merges]
        return [
            Share(
                tuple((*self.choices[k], part) for k, part in dealt if k < len(trials)),
                tuple((*self.merges[k - len(trials)], part) for k, part in dealt if k >= len(trials)),
            )
            for dealt in _dealt([*trials, *merges], config.shards)
        ]


def batches(config: Config) -> dict[str, Batch]:
    """Every choice and merge of a benchmark, each in one batch, by name.

    There is a batch for each method that does not learn, and for each variant of one that does; its choices
    are a separate batch if several processes share them.
    """
    of: dict[str, list[Variant]] = {}
    for variant in config.merge.variants:
        of.setdefault(variant.name if config.is_learned(variant) else variant.method, []).append(variant)
    made = []
    for name, variants in of.items():
        method = variants[0].method
        choices = tuple((plan, variant) for variant in variants for plan in config.chosen_for(variant))
        merges = tuple((variant, group) for variant in variants for group in config.groups(variant))
        if config.shards > 1 and choices:
            made += [Batch(f"select/{name}", method, choices, ()), Batch(name, method, (), merges)]
        else:
            made.append(Batch(name, method, choices, merges))
    return {batch.name: batch for batch in made}


def by_rule(config: Config) -> dict[str, Batch]:
    """Every batch by the name of its rule.

    That is merge_<method>, numbered if the method has several, or select_<method> if choices are separate.
    """
    found: dict[str, list[Batch]] = {}
    for batch in batches(config).values():
        what = "merge" if batch.merges else "select"
        found.setdefault(f"{what}_{batch.method}", []).append(batch)
    return {
        name if len(several) == 1 else f"{name}_{k}": batch
        for name, several in found.items()
        for k, batch in enumerate(several, 1)
    }


def batch_of(config: Config, name: str) -> Batch:
    """The batch called ``name``.

    Raises:
        UserError: there is none.
    """
    known = batches(config)
    if name not in known:
        raise UserError(unknown("batch", name, known))
    return known[name]


def _work_of_choice(config: Config, plan: str, variant: Variant) -> list[int]:
    """The cost of each trial of a choice, in merged experts and judging tasks; a search is one piece."""
    cases = config.tuning(variant, plan)
    work = [len(case.tasks) + len(case.judged) for case in cases for _ in range(config.trials(variant))]
    return [sum(work)] if config.is_searched(variant) else work


def _work_of_merges(config: Config, variant: Variant, group: str) -> list[int]:
    """The cost of each merge of a group, likewise."""
    cases = config.cases(config.groups(variant)[group])[group]
    return [len(case.tasks) + len(case.judged) for case in cases]


def _dealt(work: Sequence[Sequence[int]], count: int) -> list[list[tuple[int, slice]]]:
    """Lists of work, one after the other, cut into at most ``count`` ranges with equal work.

    Returns:
        For each range, its parts, each by the index of its list.
    """
    flat = [(k, place, cost) for k, costs in enumerate(work) for place, cost in enumerate(costs)]
    before = [0, *accumulate(cost for _, _, cost in flat)]
    stretches: dict[int, dict[int, slice]] = {}
    for (k, place, _), done in zip(flat, before, strict=False):
        parts = stretches.setdefault(count * done // before[-1], {})
        parts[k] = slice(parts[k].start if k in parts else place, place + 1)
    return [list(parts.items()) for parts in stretches.values()]
