"""The merge methods: a file each, found by its name, registered by a decorator.

A method takes the base's tensors and the experts' weight deltas and gives merged deltas, tensor by tensor
(``@method``), or it is an objective that coefficients are learned on (``@objective``). Its keyword-only
arguments are its parameters: name, type, default and range are read from the signature, and nothing else
describes them.
"""

import ast
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

from torch import Tensor

from remerge.deltas import Deltas, State, Value, merge_state
from remerge.errors import UserError
from remerge.methods._parameters import Level as Level
from remerge.methods._parameters import Parameter as Parameter
from remerge.methods._parameters import Range as Range
from remerge.methods._parameters import Scale as Scale
from remerge.methods._parameters import Scales as Scales
from remerge.methods._parameters import Scope as Scope
from remerge.methods._parameters import Share as Share
from remerge.methods._parameters import Weights as Weights
from remerge.methods._parameters import normalised as normalised
from remerge.methods._parameters import per_expert as per_expert

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Method:
    """One merge method: what it computes, from what, and who proposed it."""

    name: str
    family: str
    function: Callable[..., Any]
    citation: str
    needs: tuple[str, ...]
    summary: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    preparation: Callable[..., Deltas] | None = None

    @property
    def learned(self) -> bool:
        """Whether its coefficients are learned on inputs."""
        return "inputs" in self.needs

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters, those not given at their defaults.

        Raises:
            UserError: an unknown parameter (the nearest known is named), or a value out of range.
        """
        for name, value in params.items():
            if name not in self.parameters:
                near = difflib.get_close_matches(name, self.parameters, n=1, cutoff=0.0)
                hint = f"the nearest known is {near[0]}" if near else "it takes none"
                raise UserError(f"method {self.name}: unknown parameter {name}, {hint}")
            if not self.parameters[name].accepts(value):
                values = self.parameters[name].values
                raise UserError(f"method {self.name}: {name} is {values}, not {value!r}")
        missing = [p.name for p in self.parameters.values() if p.required and p.name not in params]
        if missing:
            raise UserError(f"method {self.name}: parameter {missing[0]} must be given")
        return {p.name: params.get(p.name, p.default) for p in self.parameters.values()}


_registry: dict[str, Method] = {}


def method(
    citation: str, needs: tuple[str, ...] = (), preparation: Callable[..., Deltas] | None = None
) -> Callable[[Function], Function]:
    """Register ``def name(base, deltas, *, parameters…) -> Merged`` as the merge method ``name``.

    Args:
        citation: who proposed it, with its arXiv number.
        needs: what it takes beyond the weights: ``two`` experts exactly, or ``statistics`` and the function
            of `remerge.measures.curvature` that computes them; ``statistics`` is then its keyword too.
        preparation: for a method that ends in sum_t lam_t tau'_t, what makes the tau' (see `prepare`): a
            function of the deltas and of those of the method's parameters that it needs.
    """

    def register(function: Function) -> Function:
        hints = get_type_hints(function, include_extras=True)
        keywords = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name not in needs
        ]
        _registry[function.__name__] = Method(
            name=function.__name__,
            family=Path(inspect.getfile(function)).parent.name.replace("methods", "own"),
            function=function,
            citation=citation,
            needs=needs,
            summary=(inspect.getdoc(function) or "").split("\n")[0],
            parameters={p.name: Parameter(p.name, hints[p.name], p.default) for p in keywords},
            preparation=preparation,
        )
        return function

    return register


def objective(citation: str, needs: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """Register ``def name(expert, merged, *, level, …) -> Tensor`` as a learned merge method.

    The function maps log-probabilities ``[N, V]`` of expert and merged model at N answer positions to a
    loss for each, ``[N]``. The coefficients that minimise it are found by `remerge.learn`.

    Args:
        citation: who proposed it.
        needs: ``references`` if it compares with the experts' answers; inputs are always needed.
    """
    return method(citation, needs=("inputs", *needs))


def methods() -> dict[str, Method]:
    """Every method by name, in the order of families and files."""
    folder = Path(__file__).parent
    files = [file for file in sorted(folder.rglob("*.py")) if file.stem[0] != "_"]
    for file in files:
        path = file.relative_to(folder).with_suffix("")
        importlib.import_module(".".join([__name__, *path.parts]))
    in_order = [file.stem for file in files if file.stem in _registry]
    return {name: _registry[name] for name in dict.fromkeys([*in_order, *_registry])}


def find(name: str) -> Method:
    """The method called ``name``.

    Raises:
        UserError: there is none; the nearest name is given.
    """
    known = methods()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UserError(f"unknown method {name!r}, did you mean {near}? (see: remerge methods)")
    return known[name]


def merge(
    name: str,
    base: State,
    experts: Sequence[Mapping[str, Value]] | Mapping[str, Mapping[str, Value]],
    *,
    statistics: Mapping[str, State] | Sequence[State] | None = None,
    **params: Any,
) -> dict[str, Tensor]:
    """Merge experts of one base.

    Args:
        name: a method of `remerge.methods()`.
        base: the base's tensors by name.
        experts: the experts' tensors, each with the base's names, shapes and dtypes; a `LowRank` in a
            tensor's place is its delta.
        statistics: for methods that need them, each expert's tensors of `remerge.measures.curvature`.
        params: the method's parameters.

    Returns:
        The merged model's tensors, in the names, order and dtypes of the base.

    Raises:
        UserError: unknown method or parameter, a value out of range, or experts that do not fit.
    """
    chosen = find(name)
    settings = chosen.settings(params)
    if chosen.learned:
        raise UserError(f"method {name} learns from inputs: give it a model and inputs (remerge.learn)")
    if "statistics" in chosen.needs:
        settings["statistics"] = _named(statistics if statistics is not None else {})
    deltas = Deltas(base, _named(experts))
    return merge_state(base, chosen.function(base, deltas, **settings))


def prepare(name: str, base: State, deltas: Deltas, **params: Any) -> Deltas:
    """Task vectors that a method has prepared, to learn coefficients over (DivMerge, Remark 3).

    With ``scale`` as the method's own parameter, ``theta_0 + sum_t scale · prepared_t`` is what the method
    computes. The result is computed whenever it is read: hold the tensors to read them often.

    Args:
        name: a method that is linear after its preparation, ``ties`` or with parameters
            ``ties@density=0.1,aggregate=sum``; ``none`` for tau itself.
        base: the base's tensors.
        deltas: the task vectors.
        params: the method's parameters, which come before those in the name.

    Raises:
        UserError: the method is not linear after a preparation, or parameters as in `merge`.
    """
    if name in ("", "none"):
        return deltas
    name, _, written = name.partition("@")
    params = {**_parsed(written), **params}
    chosen = find(name)
    if chosen.preparation is None:
        able = ", ".join(known.name for known in methods().values() if known.preparation)
        raise UserError(f"method {name} prepares no task vectors; these do: {able}")
    settings = chosen.settings(params)
    takes = inspect.signature(chosen.preparation).parameters
    return chosen.preparation(deltas, **{k: v for k, v in settings.items() if k in takes})


def table() -> str:
    """The catalogue as a markdown table."""
    lines = ["| method | family | parameters | needs | source | what it computes |", "| --- " * 6 + "|"]
    for known in methods().values():
        parameters = "<br>".join(
            f"`{p.name}`" + ("" if p.required else f" = {p.default}") + f": {p.values}"
            for p in known.parameters.values()
        )
        cells = [
            f"`{known.name}`",
            known.family,
            parameters,
            ", ".join(known.needs),
            known.citation,
            known.summary,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _parsed(written: str) -> dict[str, Any]:
    """The parameters of a variant's name, ``density=0.1,scale=1.2``."""
    params: dict[str, Any] = {}
    for pair in filter(None, written.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"{pair!r} is no parameter: write name=value")
        try:
            params[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            params[key] = value
    return params


def _named(values: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    return dict(values) if isinstance(values, Mapping) else {str(i): v for i, v in enumerate(values)}


class _Catalogue(ModuleType):
    """This module, callable: ``remerge.methods()`` is the catalogue, ``remerge.methods`` its folder."""

    __call__ = staticmethod(methods)


sys.modules[__name__].__class__ = _Catalogue
