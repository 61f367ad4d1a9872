"""The type of merge methods, how functions become methods, and how methods are found by name."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from torch import Tensor

from remerge import sources
from remerge.deltas import Combined, Deltas, Merged
from remerge.errors import UserError, unknown
from remerge.methods._learning import Learning
from remerge.methods._made import PROBE, losses, scaled, whole
from remerge.methods._parameters import Parameter, parameters_of
from remerge.methods._running import run
from remerge.variants import UNPREPARED, parse

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Needs:
    """The needs of a method beyond the weights of any number of experts.

    Attributes:
        experts: exactly this number of experts.
        answers: the experts' own answers to the inputs that it learns from.
        statistics: statistics of each expert, by the name of the function of `remerge.measures.curvature`;
            they are the method's keyword ``statistics``.
        whole: memory for a second copy of all deltas in float32; otherwise it works by tensors or pieces.
    """

    experts: int | None = None
    answers: bool = False
    statistics: Literal["fisher", "grams"] | None = None
    whole: bool = False


NOTHING = Needs()


@dataclass(frozen=True)
class Recipe:
    """The same merge in mergekit 0.1.5.

    Attributes:
        name: mergekit's method.
        weights: the weight of each expert, if the method takes weights.
        parameters: its other parameters.
        densities: the share of entries that each expert keeps, if the method takes one for each.
        base: mergekit's base model: the base, the first expert, or none.
    """

    name: str
    weights: Sequence[Any] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    densities: Sequence[float] = ()
    base: Literal["base", "first", "none"] = "base"


def no_recipe(experts: Sequence[str], **settings: Any) -> None:
    """The recipe of a merge that mergekit cannot make."""


@dataclass(frozen=True)
class Method:
    """One merge method: what it computes, from what, and who proposed it.

    Attributes:
        name: the name of its function and its file.
        family: the folder of its file.
        function: a function from deltas and parameters to merged deltas, or an objective.
        label: its name in print.
        citation: the authors who proposed it.
        summary: the first line of its docstring.
        needs: its needs beyond the weights.
        learned: whether its function is an objective by which coefficients are learned.
        parameters: its parameters by name.
        mergekit: a function from experts' names and all settings to mergekit's recipe for the merge, or None.
    """

    name: str
    family: str
    function: Callable[..., Any]
    label: str
    citation: str
    summary: str
    needs: Needs
    learned: bool
    parameters: Mapping[str, Parameter]
    mergekit: Callable[..., Recipe | None] = no_recipe

    @property
    def rescales(self) -> bool:
        """Whether the merged delta is sum_t scale_t tau'_t, and so proportional to a number ``scale``.

        The tau'_t are task vectors prepared by the method (see `prepare`). A method declares this by its
        parameter ``scale`` and its return type, `Combined`.
        """
        scale = self.parameters.get("scale")
        combines = get_type_hints(self.function).get("return") is Combined
        return combines and scale is not None and scale.accepts(1.0)

    def merge(self, deltas: Deltas, settings: Mapping[str, Any], **given: Any) -> Merged:
        """The merged deltas.

        Raises:
            UserError: as in `remerge.methods._made.whole`.
        """
        return whole(self.name, deltas, self.function(deltas, **settings, **given))

    def vectors(self, deltas: Deltas, settings: Mapping[str, Any], **given: Any) -> Deltas:
        """The tau'_t of a method that rescales.

        Raises:
            UserError: its merges are something else than the sum of vectors times its scale.
        """
        made = self.function(deltas, **{**settings, "scale": PROBE}, **given)
        return scaled(self.name, made, PROBE)

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters, with defaults for those not given.

        Raises:
            UserError: one is missing, or as in `must_take`.
        """
        for name, value in params.items():
            self.must_take(name, value)
        missing = [p.name for p in self.parameters.values() if p.required and p.name not in params]
        if missing:
            raise UserError(f"method {self.name}: parameter {missing[0]} is missing: give it")
        settings = {p.name: params.get(p.name, p.default) for p in self.parameters.values()}
        if "over" in settings:
            _preparation(settings["over"], {})
        return settings

    def must_take(self, name: str, value: Any) -> None:
        """Refuse a parameter that it does not have, or a value out of range.

        Raises:
            UserError: as said; the nearest known parameter is named.
        """
        if name not in self.parameters:
            near = difflib.get_close_matches(name, self.parameters, n=1, cutoff=0.0)
            hint = f"the nearest known is {near[0]}" if near else "it takes none"
            raise UserError(f"method {self.name}: unknown parameter {name}, {hint}")
        if not self.parameters[name].accepts(value):
            values = self.parameters[name].values
            raise UserError(f"method {self.name}: {name} must be {values}, not {value!r}")

    def alone(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """As `settings`, of a method that merges the weights alone.

        Raises:
            UserError: it needs more than these, or as in `settings`.
        """
        settings = self.settings(params)
        if self.learned or self.needs.statistics:
            what = "inputs" if self.learned else "statistics of the experts"
            raise UserError(
                f"method {self.name} needs {what}: name it in a configuration and run the pipeline"
            )
        return settings

    def learning(self, settings: Mapping[str, Any]) -> Learning:
        """The part of a learned method's settings that says how coefficients are learned."""
        return Learning(**{name: settings[name] for name in parameters_of(Learning)})

    def objective(self, settings: Mapping[str, Any]) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss that a learned method minimises, its own settings bound; the rest belong to `Learning`.

        It raises a `UserError` where its function gives something else than a loss for each position.
        """
        lose = partial(self.function, **{name: settings[name] for name in parameters_of(self.function)})
        return partial(losses, self.name, lose)


_registry: dict[str, Method] = {}


def method(
    *,
    label: str,
    citation: str,
    needs: Needs = NOTHING,
    parameters: Callable[..., Any] | None = None,
    mergekit: Callable[..., Recipe | None] = no_recipe,
) -> Callable[[Function], Function]:
    """Register ``def name(deltas, *, parameters…) -> Merged`` as the merge method ``name``.

    Methods are also read from their files, without importing them (`remerge.sources`): label, citation, needs
    and defaults are written out there, not computed.

    Args:
        label: its name in print.
        citation: the authors who proposed it, with the arXiv number.
        needs: its needs beyond the weights.
        parameters: a function whose keyword-only arguments are its parameters, if it passes them all on.
        mergekit: see `Method`.
    """

    def register(function: Function) -> Function:
        taken = parameters_of(parameters or function)
        if needs.statistics:
            del taken["statistics"]
        _registry[function.__name__] = Method(
            **_named(function),
            label=label,
            citation=citation,
            needs=needs,
            learned=False,
            parameters=taken,
            mergekit=mergekit,
        )
        return function

    return register


def objective(
    *, label: str, citation: str, epochs: int, needs: Needs = NOTHING
) -> Callable[[Function], Function]:
    """Register ``def name(expert, merged, *, parameters…) -> Tensor`` as a learned merge method.

    The function maps log-probabilities ``[N, V]`` of expert and merged model at N answer positions to a
    loss for each, ``[N]``. `remerge.learn` finds the coefficients that minimise it; its settings
    (`Learning`) are parameters of every such method.

    Args:
        label: its name in print.
        citation: the authors who proposed it.
        epochs: its default number of passes over the inputs.
        needs: ``answers`` if it compares with the experts' own answers; inputs are always needed.
    """

    def register(function: Function) -> Function:
        taken = parameters_of(function) | parameters_of(Learning)
        taken["epochs"] = replace(taken["epochs"], default=epochs)
        _registry[function.__name__] = Method(
            **_named(function), label=label, citation=citation, needs=needs, learned=True, parameters=taken
        )
        return function

    return register


def _named(function: Callable[..., Any]) -> dict[str, Any]:
    """The attributes of a method that come from its function."""
    return {
        "name": function.__name__,
        "family": sources.folder_of(Path(inspect.getfile(function))),
        "function": function,
        "summary": (inspect.getdoc(function) or "").split("\n")[0],
    }


def methods() -> dict[str, Method]:
    """Every method by name, in the order of families and files."""
    files = sources.method_files()
    for file in files:
        run(file)
    in_order = [file.stem for file in files if file.stem in _registry]
    return {name: _registry[name] for name in dict.fromkeys([*in_order, *_registry])}


def find(name: str) -> Method:
    """The method called ``name``.

    Raises:
        UserError: there is none.
    """
    for file in sources.method_files():
        if file.stem == name:
            run(file)
    if name not in _registry:
        raise UserError(f"{unknown('method', name, [*sources.known()])} (see: remerge methods)")
    return _registry[name]


def prepare(name: str, deltas: Deltas, **params: Any) -> Deltas:
    """Task vectors that a method has prepared, to learn coefficients over (DivMerge, Remark 3).

    With ``scale`` as the method's own parameter, ``theta_0 + sum_t scale · prepared_t`` is what the method
    computes. The result is computed whenever it is read: keep the tensors to read them often.

    Args:
        name: a method that is linear after its preparation, such as ``ties``, or with parameters
            ``ties@density=0.1,aggregate=sum``; ``none`` for tau itself.
        deltas: the task vectors.
        params: the method's parameters, which override those in the name.

    Raises:
        UserError: the method is not linear after a preparation, its name has a scale, or its parameters are
            wrong, as in `merge`.
    """
    preparation = _preparation(name, params)
    if preparation is None:
        return deltas
    chosen, settings = preparation
    return chosen.vectors(deltas, settings)


def _preparation(written: str, params: Mapping[str, Any]) -> tuple[Method, dict[str, Any]] | None:
    """The method that prepares task vectors, and all its settings; None if they are left as they are."""
    if written in UNPREPARED:
        return None
    name, own = parse(written)
    chosen = find(name)
    if not chosen.rescales or chosen.needs.statistics:
        able = ", ".join(m.name for m in methods().values() if m.rescales and not m.needs.statistics)
        raise UserError(f"method {name} prepares no task vectors: use one that does: {able}")
    if "scale" in own:
        raise UserError(
            f"{written}: scale has no part in preparing task vectors, which get coefficients: leave it out"
        )
    return chosen, chosen.settings({**own, **params})
