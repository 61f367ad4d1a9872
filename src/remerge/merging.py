"""`remerge.merge`: one merge, of state dicts or of models in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

from remerge.errors import UserError
from remerge.notes import note_on


def merge(
    name: str,
    base: Any,
    experts: Sequence[Any] | Mapping[str, Any],
    *,
    statistics: Mapping[str, Any] | Sequence[Any] | None = None,
    **params: Any,
) -> Any:
    """Merge experts of one base.

    State dicts give a state dict (`remerge.methods.merge`), models give a model
    (`remerge.folders.memory.merge_models`); the inputs are not changed.

    Args:
        name: a method of `remerge.methods()`.
        base: the base's tensors by name, or a model as `from_pretrained` returns it.
        experts: the same for each expert, or PEFT models of the base, in a list or by name. Tensors have the
            base's names, shapes and dtypes; others are not merged, as a note on standard error says.
        statistics: for state dicts, and methods that need them: each expert's tensors from
            `remerge.measures.curvature`.
        params: the method's parameters.

    Returns:
        The merge: tensors in the names, order, shapes and dtypes of the base, or a model of its class, in
        evaluation mode, on its device.

    Raises:
        UserError: unknown method or parameter, a value out of range, or experts that do not fit; the message
            is one line.

    Examples:
        >>> remerge.merge("ties", base, [a, b], density=0.2, scale=1.0)
    """
    if not isinstance(experts, Sequence | Mapping):
        raise UserError(f"experts are a {type(experts).__name__}: give a list, or a mapping by name")
    # Imported here: torch takes seconds, transformers and PEFT more.
    named = experts if isinstance(experts, Mapping) else {str(i): model for i, model in enumerate(experts)}
    if isinstance(base, Mapping):
        from remerge import methods

        made = methods.merge(name, base, named, statistics=statistics, **params)
        _note_on_others(base, named)
        return made
    from remerge.folders.memory import merge_models

    return merge_models(name, base, named, params)


def _note_on_others(base: Mapping[str, Any], experts: Mapping[str, Mapping[str, Any]]) -> None:
    """A note on what state dicts have beside the base's tensors, such as heads, and are not tied to."""
    from torch import Tensor

    from remerge.deltas import aliases

    for expert, state in experts.items():
        tied = aliases({n: value for n, value in state.items() if isinstance(value, Tensor)})
        merged = {tied.get(n, n) for n in base}
        note_on((n for n in state if tied.get(n, n) not in merged), f"only in {expert}: not merged")
