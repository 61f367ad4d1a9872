"""Methods on several benchmarks.

For the largest merges of each benchmark ({largest}): the mean ANP; worst, the lowest normalised score within
a merge, in %, averaged over merges; the seconds for merging and learning; and the peak memory until a merge
was made, allocated on a GPU or resident in the process on a CPU ({devices}). The best single expert is the
merged expert with the highest ANP on all merged tasks, on test splits. Needs: what a method requires beyond
weights, from validation splits unless another split is named; labels are needed to tune settings. Bold: the
best merge in a column. {differing} {loaded}
"""

from collections.abc import Mapping

from remerge import records, sources
from remerge.config import UNMERGED
from remerge.exhibits._rows import Row, best, differing, frame, loaded, mean
from remerge.records import Score
from remerge.report.labels import MODELS
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("base", "scores", "merges")
GIB = 2**30


def build(runs: list[Run]) -> Table:
    """One row per method, four columns per benchmark."""
    names = [run.benchmark for run in runs]
    rows: dict[str, Row] = {}
    needs: dict[str, dict[str, None]] = {}
    columns = [Column("method", "Method"), Column("needs", "Needs")]
    for run in runs:
        here = run.benchmark
        for row in [*_unmerged(run), *_merged(run)]:
            rows.setdefault(row["method"], {}).update(row)
            needs.setdefault(row["method"], {}).update(_needs(run, row["variant"]))
        columns += [
            Column(here, "ANP", here, digits=1),
            Column(f"{here} worst", "worst", here, digits=1),
            Column(f"{here} seconds", "s", here, digits=3),
            Column(f"{here} memory", "GiB", here, digits=2),
        ]
    columns += [Column("mean", "mean ANP", digits=1)] if len(names) > 1 else []
    ordered = sorted(rows.values(), key=lambda row: row["variant"] not in UNMERGED)
    filled = [{**dict.fromkeys((column.key for column in columns), float("nan")), **row} for row in ordered]
    for row in filled:
        row["needs"] = ", ".join(needs[row["method"]])
        # Of methods that all benchmarks have: others had it easier or harder.
        row["mean"] = sum(row[name] for name in names) / len(names)
    unmerged = len([row for row in filled if row["variant"] in UNMERGED])
    bold = best(filled, columns, [*names, *(f"{name} worst" for name in names), "mean"])
    devices = ", ".join(f"{run.benchmark}: {run.model('base').device}" for run in runs)
    largest = ", ".join(f"{run.benchmark}: {run.sizes[-1]} tasks" for run in runs)
    table = frame(filled, columns, "variant")
    facts = {"devices": devices, "largest": largest, "differing": differing(runs), "loaded": loaded(runs)}
    return Table(table, tuple(columns), bold, frozenset({unmerged}), facts)


def _unmerged(run: Run) -> list[Row]:
    """The base, the best single expert, and multitask, on the subsets of the largest size."""
    here = run.benchmark
    models = {name: run.scores(name) for name in (*run.references, *run.tasks)}
    found: dict[str, list[tuple[float, float]]] = {"base": [], "expert": [], "multitask": []}
    for subset in run.config.subsets(run.sizes[-1]):
        on_subset = {name: _anp_and_worst(run, scores, subset) for name, scores in models.items()}
        for name in run.references:
            found[name].append(on_subset[name])
        found["expert"].append(max(on_subset[task] for task in subset))
    return [
        {
            "variant": name,
            "method": MODELS[name],
            here: mean(anp for anp, _ in values),
            f"{here} worst": mean(worst for _, worst in values),
        }
        for name, values in found.items()
        if values
    ]


def _anp_and_worst(run: Run, scores: Mapping[str, Score], subset: tuple[str, ...]) -> tuple[float, float]:
    shares = records.normalised({task: scores[task] for task in subset}, run.own)
    return records.anp(shares), 100 * min(shares.values())


def _merged(run: Run) -> list[Row]:
    """Every variant that makes the largest merges."""
    here, size = run.benchmark, run.sizes[-1]
    rows = []
    for variant in run.variants:
        merges = run.merges(variant.name, size)
        if merges:
            held = [merge.memory / GIB for merge in merges if merge.memory is not None]
            rows.append(
                {
                    "variant": variant.name,
                    "method": variant.label,
                    here: run.mean_anp(variant.name, size),
                    f"{here} worst": mean(100 * min(merge.normalised.values()) for merge in merges),
                    f"{here} seconds": mean(merge.seconds.merge + merge.seconds.fit for merge in merges),
                    f"{here} memory": max(held, default=float("nan")),
                }
            )
    return rows


def _needs(run: Run, variant: str) -> dict[str, None]:
    """The needs of a variant beyond the experts' weights, in words."""
    if variant in UNMERGED:
        return {}
    asked = run.config.variant(variant)
    if variant in run.config.external:
        return {"another tool": None}
    method = sources.known()[asked.method]
    words = {
        "training inputs": method.statistics is not None,
        "inputs": method.learned,
        "experts' answers on them": method.answers,
        "labels": run.config.is_tuned(asked),
    }
    return {word: None for word, taken in words.items() if taken}
