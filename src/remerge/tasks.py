"""A task's examples: kept as parquet, and turned into inputs and answers."""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from remerge.config import OF_NUMBERS, Task
from remerge.errors import UserError
from remerge.files import write_with
from remerge.measures.free import number_in
from remerge.templates import MissingError, columns, filled, given

Row = dict[str, Any]

ENTRY = re.compile(r"\{([^{}]+?)\[(\d+)\]([^{}]*)\}")
"""An answer that is an entry of a list."""

SWITCHES = ("false", "true")
"""The words of labels that may be written in any case."""


def pairs(
    where: str, task: Task, rows: list[Row], speaks: bool, numbers: Sequence[int] | None = None
) -> list[tuple[Any, str | int]]:
    """The input of every example, and its answer: in words, or the number of its class.

    Args:
        where: the place of the examples, for error messages.
        task: the task, with prompt and answers.
        rows: the examples.
        speaks: whether answers are words.
        numbers: the rows' numbers in their file, from 0, if they are not in its order.

    Raises:
        UserError: a column or a value is missing, a label is not among the declared ones, or the metric sees
            nothing of the answers.
    """
    made: list[tuple[Any, str | int]] = []
    for number, row in zip(numbers or range(len(rows)), rows, strict=True):
        try:
            made.append(_pair(task, row, speaks))
        except MissingError as field:
            raise UserError(
                f"{where}: example {number + 1} has nothing in {field}: fill it, or leave such examples "
                "out with missing: drop"
            ) from None
        except KeyError as missing:
            known = ", ".join(row)
            raise UserError(
                f"{where}: no column {missing} (its columns: {known}): see prompt, answers and target"
            ) from None
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{where}: example {number + 1}: {error}: see prompt, answers, labels and target"
            ) from None
    _check_answers(where, task, [str(answer) for _, answer in made])
    return made


def _check_answers(where: str, task: Task, answers: list[str]) -> None:
    """Refuse answers of which a metric sees nothing; ROUGE leaves out all letters but a to z."""
    metric = task.metric
    if task.together and len(set(answers)) == 1:
        raise UserError(f"{where}: all answers are the same, of which {metric} is 0: use another metric")
    if metric in ("last_number", *OF_NUMBERS):
        without = next((answer for answer in answers if number_in(answer) is None), None)
        if without is not None:
            raise UserError(f"{where}: an answer without a number, {without[:40]!r}: use another metric")
    if not metric.startswith("rouge"):
        return
    letters = [letter for answer in answers for letter in answer if letter.isalpha()]
    if 2 * sum(letter.isascii() for letter in letters) < len(letters):
        raise UserError(f"{where}: ROUGE counts only letters from a to z, and most are others: use accuracy")


def lacks(task: Task, row: Row) -> bool:
    """Whether something that an example's input or answer needs is missing in it."""
    try:
        _pair(task, row, speaks=True)
    except MissingError:
        return True
    except (KeyError, TypeError, ValueError):
        # A faulty example is reported only if it is taken.
        return False
    return False


def _pair(task: Task, row: Row, speaks: bool) -> tuple[Any, str | int]:
    """The input of an example, and its answer.

    Raises:
        MissingError: a value that they need is missing.
        KeyError: a column is missing.
        TypeError: a value is not text.
        ValueError: a label is not among the declared ones.
    """
    asked = given(row[task.image], task.image) if task.image else filled(task.prompt or "", row)
    return asked, _answer(task, row, speaks)


def _answer(task: Task, row: Row, speaks: bool) -> str | int:
    written = filled(task.target, row) if "{" in task.target else given(row[task.target], task.target)
    if not task.answers:
        return filled("{target}", {"target": written})
    if str(written).removesuffix(".0") == "-1" and "-1" not in map(str, task.labels or []):
        # Public datasets mark so what nobody has labelled, such as the test splits of GLUE.
        raise MissingError(f"{task.target} but -1")
    label = _label(task, row, written)
    if speaks and task.chooses:
        return answers_of(task, row)[label]
    return filled(task.answers[label], row) if speaks else label


def answers_of(task: Task, row: Row) -> list[str]:
    """The answers of an example, from which the likeliest is chosen.

    Raises:
        MissingError: one is missing, or the list from which all are taken has more.
        ValueError: one has no words, or two are the same.
    """
    texts = [filled(answer, row) for answer in task.answers]
    if behind := _behind(task.answers):
        try:
            filled(f"{{{behind}}}", row)
        except MissingError:
            pass
        else:
            raise MissingError(f"answers for {behind}")
    for place, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"answer {place + 1} has no words, and so no likelihood")
        if text in texts[:place]:
            raise ValueError(f"two answers are {text[:40]!r}, so that neither can be chosen")
    return texts


def _behind(answers: Sequence[str]) -> str | None:
    """The entry behind those of a list that are the answers; None if they are not the first of one list."""
    entries = [found.groups() for answer in answers if (found := ENTRY.fullmatch(answer))]
    places = {int(place) for _, place, _ in entries}
    if len({(column, rest) for column, _, rest in entries}) != 1 or places != {*range(len(answers))}:
        return None
    column, _, rest = entries[0]
    return f"{column}[{len(answers)}]{rest}"


def _label(task: Task, row: Row, written: Any) -> int:
    """The number of a label's answer; file and configuration may write a label as a number or as a text.

    Raises:
        MissingError: the example lacks the label of an answer.
        ValueError: the label has no answer, or two answers have the same.
    """
    labels: list[bool | int | str] = list(range(len(task.answers)))
    if task.labels:
        labels = [filled(label, row) if isinstance(label, str) else label for label in task.labels]
        said = [*map(str, labels)]
        if len(set(said)) < len(said):
            raise ValueError(f"two answers have the label {max(said, key=said.count)!r}")
    if written in labels:
        return labels.index(written)
    words = [str(label).lower() if isinstance(label, bool) else str(label) for label in labels]
    text = str(written)
    # A column of numbers of which some are missing is often written 0.0, 1.0; and a switch True or true.
    other = text.lower() if text.lower() in SWITCHES else text.removesuffix(".0")
    for spelled in (text, other):
        if words.count(spelled) == 1:
            return words.index(spelled)
    shown = ", ".join(words[:8]) + (", …" if len(words) > 8 else "")
    raise ValueError(
        f"label {written!r} has no answer, only {shown} have: list the answers' labels in labels"
    )


def fixed_answers(task: Task) -> list[str]:
    """The answers in words; none if they are free, or contain fields, so that examples differ in them."""
    return [] if any(map(columns, task.answers)) else [filled(answer, {}) for answer in task.answers]


def shuffled(row: Row, task: Task, seed: str) -> Row:
    """An example with the words of each of its texts in another order, and the same answer."""
    draw = random.Random(seed)
    kept = columns(task.target) if "{" in task.target else {task.target}

    def mixed(value: Any) -> Any:
        if isinstance(value, str):
            words = value.split()
            return " ".join(draw.sample(words, len(words)))
        if isinstance(value, dict):
            return {key: mixed(inner) for key, inner in value.items()}
        return [*map(mixed, value)] if isinstance(value, list) else value

    return {key: value if key in kept else mixed(value) for key, value in row.items()}


def write_split(path: Path, rows: list[Row]) -> None:
    """Write examples as parquet."""
    write_with(path, lambda temporary: pq.write_table(pa.Table.from_pylist(rows), temporary))


def read_split(path: Path) -> list[Row]:
    """Read examples back.

    Raises:
        UserError: the file is missing or truncated.
    """
    try:
        rows: list[Row] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: incomplete or damaged ({error}): delete it and run again") from None
    return rows
