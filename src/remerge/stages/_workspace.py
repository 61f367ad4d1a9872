"""One benchmark's files, and its models and examples as the stages need them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from remerge.config import Config, Variant, digest
from remerge.errors import UserError
from remerge.families import Example
from remerge.journal import Journal
from remerge.made import checked
from remerge.measures import choice, curvature, references
from remerge.measures.joint import Labels
from remerge.measures.references import Reference, load_reference
from remerge.measures.score import Split
from remerge.records import Score, Scores, Selection
from remerge.stages._code import code
from remerge.stages._models import Models
from remerge.stages._paths import data_file, settings_of_data
from remerge.tasks import Row, answers_of, fixed_answers, pairs, read_split, shuffled


class Workspace(Models):
    """Everything that a stage reads of one benchmark.

    Args:
        config: the benchmark's configuration.
        share: the number of this process, if it is one of several that share a batch.
    """

    def __init__(self, config: Config, share: int | None = None) -> None:
        super().__init__(config)
        self.share = share
        self._splits: dict[tuple[str, str], Split] = {}

    def journal(self, kind: Any, *parts: str) -> Journal:
        """A journal of this benchmark, for records of one type."""
        return Journal(self.journal_file(*parts), kind, self.share)

    def journal_file(self, *parts: str) -> Path:
        """The file of a journal."""
        folder = self.folder.joinpath("journal", *parts[:-1])
        return folder / f"{parts[-1]}.jsonl"

    def rows(self, task: str, split: str) -> list[Row]:
        """The examples of a split, in the columns of its dataset."""
        file = data_file(self.folder, task, split)
        return read_split(checked(self.folder, file, settings_of_data(self.config, task)))

    def split(self, task: str, split: str) -> Split:
        """A split as the models read it, read once."""
        if (task, split) not in self._splits:
            self._splits[task, split] = self._split(task, split)
        return self._splits[task, split]

    def _split(self, task: str, split: str) -> Split:
        file = data_file(self.folder, task, split)
        settings, speaks = self.config.task(task), self.config.base.speaks
        rows = self.rows(task, split)
        asked = pairs(str(file), settings, rows, speaks)
        examples = self.family.examples(task, asked)
        answers = fixed_answers(settings)
        labels = self.family.labels(asked[0][0], answers) if answers else None
        gold = [str(answer) for _, answer in asked]
        # Words and captions form the heads of image tasks.
        longest = settings.answer_tokens
        judged = (gold, settings.metric, longest, settings.answers, settings.captions)
        options = None
        if settings.chooses and speaks and split != "train":  # on which no model is judged
            every = [answers_of(settings, row) for row in rows]
            options = choice.options(str(file), self.family, task, asked, every)
        parts = (examples, *judged, *filter(None, [options]))
        name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        return Split(examples, gold, labels, settings.metric, longest, name, options)

    def labels_of(self, tasks: Sequence[str]) -> Labels | None:
        """The answers of tasks, if inputs can be judged among the answers of all; None for fewer than two.

        That is so if heads are fixed, so comparable. A model that answers in words chooses among all words
        anyway.
        """
        able = self.config.base.fixed_heads and len(tasks) > 1
        return {task: self.config.task(task).answers for task in tasks} if able else None

    def reference_file(self, task: str, kind: str = "") -> Path:
        """The file of the reference of a task's expert, on its own inputs or on a kind of stand-ins."""
        return self.folder / "references" / f"{'@'.join(filter(None, (task, kind)))}.safetensors"

    def reference_inputs(self, task: str, kind: str = "") -> list[Example]:
        """The validation inputs on which the answers of a task's expert are kept.

        Stand-ins for them are either ``shuffled``, its own with their words in another order, or ``other``:
        inputs of the next task, with that task's prompt.
        """
        if not kind:
            return self.split(task, "validation").examples[: self.config.learning.references]
        source = self.config.next_task(task) if kind == "other" else task
        asked, file = self.config.task(source), data_file(self.folder, source, "validation")
        rows = self.rows(source, "validation")[: self.config.learning.references]
        if kind == "shuffled":
            rows = [shuffled(row, asked, f"{self.config.seed}/{task}/{k}") for k, row in enumerate(rows)]
        # The expert answers them: options, which may be equal in shuffled words, are not compared.
        asked = asked.model_copy(update={"metric": "accuracy"})
        return self.family.examples(task, pairs(str(file), asked, rows, self.config.base.speaks))

    def reference(self, task: str, kind: str = "") -> Reference:
        """The reference of a task's expert."""
        inputs = self.reference_inputs(task, kind)
        follows = self.reference_follows(task, inputs)
        path = checked(self.folder, self.reference_file(task, kind), follows)
        return load_reference(path, inputs, self.head(task))

    def reference_follows(self, task: str, inputs: Sequence[Example]) -> dict[str, str]:
        """The origins of a reference: a task's expert on some inputs."""
        longest = self.config.task(task).answer_tokens
        return self._follows(task, inputs, Path(references.__file__), longest)

    def _follows(self, task: str, inputs: Sequence[Example], measure: Path, *settings: Any) -> dict[str, str]:
        """The origins of a file with an expert's answers on a task, each by a digest.

        Args:
            task: the expert's task.
            inputs: the inputs that it is asked.
            measure: the source file of the measure.
            settings: the measure's settings.
        """
        return {
            "weights": digest(self.contents("base", task)),
            "inputs": digest(repr(inputs)),
            "code": code(self.config, measure),
            "settings": digest(self.precision, *settings),
        }

    def params(self, variant: Variant, plan: str) -> dict[str, Any]:
        """A variant's parameters, with the values of tuned ones that were chosen for a plan."""
        given = self.config.params(variant)
        if not self.config.is_tuned(variant):
            return given
        return {**given, **self.selection(variant, plan).chosen}

    def selection(self, variant: Variant, plan: str) -> Selection:
        """The choice of a variant's tuned parameters for a plan."""
        name = self.config.benchmark
        return Selection.read(self.folder, plan=plan, variant=variant.name, benchmark=name)

    def statistics_file(self, task: str, kind: str) -> Path:
        """The file of one kind of statistics of a task's expert."""
        return self.folder / "statistics" / task / f"{kind}.safetensors"

    def statistics_inputs(self, task: str) -> list[Example]:
        """The training inputs for the statistics of a task's expert."""
        return self.split(task, "train").examples[: self.config.statistics.inputs]

    def statistics_follow(self, task: str) -> dict[str, str]:
        """The origins of the statistics of a task's expert."""
        inputs = self.statistics_inputs(task)
        return self._follows(task, inputs, Path(curvature.__file__), self.config.seed)

    def statistics(self, task: str, kind: str) -> dict[str, Tensor]:
        """Statistics of a task's expert.

        Raises:
            UserError: the file is missing or truncated.
        """
        path = checked(self.folder, self.statistics_file(task, kind), self.statistics_follow(task))
        try:
            found = {name: tensor.to(self.device) for name, tensor in load_file(path).items()}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: incomplete or damaged ({error}): delete it and run again") from None
        for name, tensor in found.items():
            if not tensor.isfinite().all():
                raise UserError(f"{path}: {name} contains NaN or infinity: delete it and run again")
        return found

    def expert_score(self, task: str) -> Score:
        """P_t(theta_t): an expert on its own task's test split.

        Raises:
            UserError: it is zero, so that nothing can be normalised by it.
        """
        path = Scores.place(self.folder, model=task)
        scores = Scores.read(self.folder, model=task, benchmark=self.config.benchmark).scores
        if task not in scores:
            raise UserError(f"{path} has no score on {task}: delete it and run again")
        score = scores[task]
        if score.value <= 0:
            raise UserError(
                f"{path}: the expert of {task} scores {score.value:.2g} on its own task: train it further"
            )
        return score
