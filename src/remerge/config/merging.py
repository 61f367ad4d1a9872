"""The sections on merges: variants, chosen parameters and learned coefficients, and how models are scored."""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from remerge.config._section import Count, Name, Section
from remerge.variants import TUNE, digest, is_tuned, name_of, tuned


class Variant(Section):
    """A merge method with the parameters that differ from its defaults."""

    name: str
    method: Name
    params: dict[str, JsonValue] = Field(
        {},
        description=f"parameters; to choose one from a list on validation scores: {{{TUNE}: [0.1, 0.2]}}, "
        "also one of several numbers, as under an expert's name in scale",
    )
    seeds: Count = Field(1, description="how often each merge is made, for a random or learned method")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {given: {}}
        if isinstance(given, dict) and len(given) == 1 and "name" not in given:
            ((method, params),) = given.items()
            params = dict(params or {}) if isinstance(params, dict | None) else params
            seeds = params.pop("seeds", 1) if isinstance(params, dict) else 1
            given = {"method": method, "params": params, "seeds": seeds}
        if not (isinstance(given, dict) and "method" in given and isinstance(given.get("params", {}), dict)):
            raise ValueError("write a method, or one with its parameters: {ties: {density: 0.1}}")
        if not all(isinstance(key, str) for key in given.get("params", {})):
            raise ValueError(f"{given['method']}: a parameter's name is no text: quote it")
        seeds = {"seeds": given["seeds"]} if given.get("seeds", 1) != 1 else {}
        name = name_of(str(given["method"]), given.get("params", {}) | seeds)
        written = given.setdefault("name", name)
        # Of variants that differ only in their tuned lists, a resolved configuration has a digest too.
        if written != name and not str(written).startswith(f"{name}="):
            raise ValueError(f"name: method and parameters make it {name}, not {written!r}: leave it out")
        return given


class Merge(Section):
    """How merges are made, for every variant in every plan."""

    variants: list[Variant] = Field(min_length=1)
    defaults: dict[Name, dict[str, JsonValue]] = Field(
        {}, description="by method: parameters of all its variants that do not override them"
    )
    delta_dtype: Literal["float32", "bfloat16"] | None = Field(
        None,
        description="type of the task vectors over which coefficients are learned; by default, experts in "
        "half precision stay so, and what a method prepares of them is bfloat16; all else is float32",
    )

    @field_validator("variants")
    @classmethod
    def _distinct(cls, variants: list[Variant]) -> list[Variant]:
        """Distinct names: if variants differ only in their tuned lists, the later ones get a digest."""
        found: dict[str, Variant] = {}
        for variant in variants:
            name = variant.name
            if name in found and any(map(is_tuned, variant.params.values())):
                name = f"{name}={digest(variant.params)[:8]}"
            if name in found:
                raise ValueError(f"variant {name} is listed twice: leave one out")
            found[name] = variant.model_copy(update={"name": name})
        return list(found.values())

    @model_validator(mode="after")
    def _tuned(self) -> "Merge":
        given = {f"defaults.{method}": params for method, params in self.defaults.items()}
        given |= {v.name: {**self.defaults.get(v.method, {}), **v.params} for v in self.variants}
        for name, params in given.items():
            for keys, values in tuned(params).items():
                key = ": ".join(keys)
                if not isinstance(values, list) or not values:
                    raise ValueError(f"{name}: {key}: {TUNE} takes a list of values: write [0.1, 0.2]")
                twice = next((value for k, value in enumerate(values) if value in values[:k]), None)
                if twice is not None:
                    raise ValueError(f"{name}: {key}: {twice} is given twice: leave one out")
        return self


class Tune(Section):
    """How the values of tuned parameters are chosen."""

    search: Literal["grid", "tpe", "cma"] = Field(
        "grid",
        description="grid: try every combination; tpe, cma: for a grid with more points than `trials`, "
        "propose each trial from the results of those before, by Optuna's TPE or CMA-ES; the values of a "
        "list must be in order, and numbers for cma",
    )
    trials: Count = Field(60, description="number of trials of tpe and cma per plan, including repeated ones")

    @model_validator(mode="after")
    def _searched(self) -> "Tune":
        if self.search == "grid" and self.trials != type(self).model_fields["trials"].default:
            raise ValueError(
                "trials are of tpe and cma, and a grid is tried in full: set search, or leave trials out"
            )
        return self


class Learning(Section):
    """How coefficients are learned (DivMerge, Table 9), in addition to the learned methods' parameters."""

    references: Count = Field(
        500, description="validation inputs per task on which the expert's answers are stored"
    )
    batch_size: Count = Field(1, description="inputs of each task per step")


class Statistics(Section):
    """Settings of the statistics of each expert that fisher and regmean need."""

    inputs: Count = Field(256, description="training inputs of the expert's task, without labels")


class Evaluation(Section):
    """How models are scored."""

    batch_size: Count = 64
    watch: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="for learned methods: also score merges of two experts at this many points of the "
        "training, including start and end",
    )
