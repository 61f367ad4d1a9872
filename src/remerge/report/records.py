"""Everything a run has recorded in ``results/<benchmark>``, read lazily, checked, as pandas frames.

The contract of the files is results/README.md. A frame of scores has one row a model; a frame of
merges one row a merge, and the unmerged base and the multitask model stand in it as if they had
been merged on the very same subsets.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from remerge.errors import UserError
from remerge.files import read_json
from remerge.report.labels import label, paper_row
from remerge.report.published import Published
from remerge.variants import is_tuned


@dataclass(frozen=True)
class Variant:
    """A merge method with its parameters, as the configuration orders them."""

    name: str
    method: str
    params: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The name in print."""
        return label(self.name, self.params)

    def row_in(self, paper: str) -> str | None:
        """The name in a paper, ``divmerge`` or ``drm``."""
        return paper_row(paper, self.name, self.params)


class Records:
    """The records of one benchmark; only files that are asked for are read."""

    def __init__(self, results: Path) -> None:
        """Take the folder ``results/<benchmark>``."""
        self.results = Path(results)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration, every default written out."""
        path = self.results / "config.yaml"
        config: dict[str, Any]
        try:
            config = yaml.safe_load(path.read_text())
        except FileNotFoundError:
            raise UserError(f"{path} is missing: run the stage that makes it") from None
        except yaml.YAMLError:
            raise UserError(f"{path} is not YAML: delete it and run again") from None
        for key in ("benchmark", "tasks", "merge"):
            if not isinstance(config, dict) or key not in config:
                raise UserError(f"{path} has no {key}: delete it and run again")
        return config

    @property
    def benchmark(self) -> str:
        """The benchmark's name."""
        return str(self.config["benchmark"])

    @property
    def tasks(self) -> list[str]:
        """The tasks, in the configuration's order."""
        return list(self.config["tasks"])

    @property
    def sizes(self) -> list[int]:
        """How many tasks are merged: from two to all, if the configuration does not say less."""
        given = ((self.config.get("plans") or {}).get("subsets") or {}).get("sizes")
        return sorted(given) if given else list(range(2, len(self.tasks) + 1))

    @cached_property
    def variants(self) -> list[Variant]:
        """The merge methods, in the configuration's order."""
        given = self.config["merge"]["variants"]
        return [Variant(v["name"], v["method"], v.get("params") or {}) for v in given]

    @property
    def tuned(self) -> list[Variant]:
        """The variants with parameters that a grid of the pipeline chose."""
        merge = self.config["merge"]
        said = {v.name: {**merge.get("defaults", {}).get(v.method, {}), **v.params} for v in self.variants}
        return [v for v in self.variants if any(map(is_tuned, said[v.name].values()))]

    @cached_property
    def published(self) -> Published:
        """The papers' numbers for this benchmark, if they ran it."""
        return Published(self.benchmark)

    @cached_property
    def references(self) -> list[str]:
        """What merges are compared with, unmerged: the base, and the multitask model if there is one."""
        trained = self.config.get("finetune", {}).get("multitask", True)
        return ["base", "multitask"] if trained else ["base"]

    @cached_property
    def base(self) -> dict[str, Any]:
        """Which base."""
        return _mapping(self.results / "base.json")

    def expert(self, task: str) -> dict[str, Any]:
        """Which expert of ``task``; `multitask` is one."""
        return _mapping(self.results / "experts" / f"{task}.json")

    def reference(self, task: str) -> dict[str, Any]:
        """The cost and size of an expert's greedy answers."""
        return _mapping(self.results / "references" / f"{task}.json")

    def selection(self, variant: str) -> dict[str, Any]:
        """The grid of a variant's tuned parameters and the choice."""
        return _mapping(self._selection(variant))

    def scores(self, model: str) -> dict[str, dict[str, Any]]:
        """One model's scores by task: metric, value, restricted, n."""
        path = self.results / "scores" / f"{model}.json"
        scores: dict[str, dict[str, Any]] = _mapping(path).get("scores", {})
        for task in self.tasks:
            if task not in scores:
                raise UserError(f"{path} has no score on {task}: delete it and run again")
        return scores

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """The strict score of every expert, the base and multitask (rows) on every task."""
        return self._score_frame("value")

    @cached_property
    def restricted(self) -> pd.DataFrame:
        """The same with the answer restricted to the task's labels, NaN where it has none."""
        return self._score_frame("restricted")

    def divergence(self, kind: str) -> pd.DataFrame:
        """D(expert of the column's task ‖ expert of the row) on the column's task; kl or js."""
        rows: dict[str, dict[str, float]] = {}
        for model in self.tasks:
            path = self.results / "divergences" / f"{model}.json"
            found = _mapping(path).get("divergences", {})
            for task in self.tasks:
                if task not in found:
                    raise UserError(f"{path} has no divergence on {task}: delete it and run again")
            rows[model] = {task: float(found[task][kind]) for task in self.tasks}
        return pd.DataFrame.from_dict(rows, orient="index")

    def divergence_inputs(self) -> list[int]:
        """Over how many inputs each task's divergences are means."""
        path = self.results / "divergences" / f"{self.tasks[0]}.json"
        found = _mapping(path)["divergences"]
        return [int(found[task]["n"]) for task in self.tasks]

    def lines(self, variant: str, size: int) -> list[dict[str, Any]]:
        """Every merge of ``size`` experts by ``variant``, checked to be whole and single."""
        path = self.results / "merges" / variant / f"{size}.jsonl"
        try:
            text = path.read_text()
        except FileNotFoundError:
            raise UserError(f"{path} is missing: run the stage that makes it") from None
        merges: list[dict[str, Any]] = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                merges.append(json.loads(line))
            except ValueError:
                raise UserError(f"{path}, line {number} is not JSON: delete the file") from None
        found = sorted("+".join(sorted(merge["tasks"])) for merge in merges)
        wanted = sorted("+".join(subset) for subset in combinations(sorted(self.tasks), size))
        if found != wanted:
            lacks = sorted(set(wanted) - set(found))
            what = f"lacks {lacks[0]}" if lacks else "holds subsets twice or of other tasks"
            raise UserError(f"{path} {what}: run its stage again")
        return merges

    def merge_scores(self, size: int) -> dict[str, dict[str, list[float]]]:
        """For every variant and task its scores under the merges of ``size`` experts that hold the task."""
        found: dict[str, dict[str, list[float]]] = {}
        for variant in self.variants:
            scores = found[variant.name] = {task: [] for task in self.tasks}
            for merge in self.lines(variant.name, size):
                for task, score in merge["scores"].items():
                    scores[task].append(float(score["value"]))
        return found

    @cached_property
    def merges(self) -> pd.DataFrame:
        """One row a merge: variant, size, subset, anp, restricted, seconds merge, fit, evaluate."""
        rows: list[dict[str, Any]] = []
        for variant in self.variants:
            for size in self.sizes:
                for merge in self.lines(variant.name, size):
                    seconds = merge["seconds"]
                    restricted = merge.get("anp_restricted")
                    rows.append(
                        {
                            "variant": variant.name,
                            "size": size,
                            "subset": tuple(sorted(merge["tasks"])),
                            "anp": float(merge["anp"]),
                            "restricted": float("nan" if restricted is None else restricted),
                            **{k: float(seconds[k]) for k in ("merge", "fit", "evaluate")},
                        }
                    )
        return pd.DataFrame(rows)

    @cached_property
    def anp(self) -> pd.DataFrame:
        """Like ``merges``, with the references on the same subsets (Eq. 5, unmerged)."""
        rows = [
            {
                "variant": model,
                "size": size,
                "subset": subset,
                "anp": self._mean_ratio(self.accuracy, model, subset),
                "restricted": self._mean_ratio(self.restricted, model, subset),
            }
            for model in self.references
            for size in self.sizes
            for subset in combinations(sorted(self.tasks), size)
        ]
        return pd.concat([pd.DataFrame(rows), self.merges], ignore_index=True)

    def anp_of(self, variant: str, size: int, kind: str = "anp") -> list[float]:
        """The ANP of every merge of one size by one variant, `base` or `multitask`."""
        frame = self.anp
        rows = (frame["variant"] == variant) & (frame["size"] == size)
        return [float(value) for value in frame.loc[rows, kind]]

    def _mean_ratio(self, scores: pd.DataFrame, model: str, subset: tuple[str, ...]) -> float:
        ratios = []
        for task in subset:
            own = float(scores.loc[task, task])  # type: ignore[arg-type]
            ratios.append(float(scores.loc[model, task]) / own if own else float("nan"))  # type: ignore[arg-type]
        return 100 * sum(ratios) / len(ratios)

    def _score_frame(self, key: str) -> pd.DataFrame:
        models = [*self.tasks, *self.references]
        rows = {model: {t: self.scores(model)[t].get(key) for t in self.tasks} for model in models}
        return pd.DataFrame.from_dict(rows, orient="index").astype(float)

    def _selection(self, variant: str) -> Path:
        return self.results / "selection" / f"{variant}.json"


def _mapping(path: Path) -> dict[str, Any]:
    record = read_json(path)
    if not isinstance(record, dict):
        raise UserError(f"{path} is not a record: delete it and run again")
    return record
