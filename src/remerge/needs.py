"""The memory and time that each job needs, from the configuration and headers of weights, without a model.

Whole models are counted in their dtypes in memory. Everything else assumes one shape, see `remerge.size`, and
inputs of `TOKENS` tokens. The results are upper bounds.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from remerge import sources
from remerge.amounts import ANSWERS_AT_ONCE, OPTION
from remerge.batches import Batch, batch_of
from remerge.config import Config, Variant
from remerge.estimate import TOKENS, Estimate, decomposes
from remerge.headers import weights
from remerge.plans import Case
from remerge.size import FLOAT32, SINGLE, dtypes_of, size_of, width_of
from remerge.training import existing
from remerge.units import NOTHING, Extent, Work
from remerge.variants import UNPREPARED, parse
from remerge.work import Jobs

LIBRARIES = 1_600
"""MB of a process with all imports and the examples; imports are 410, 1,090 of a PyTorch built for GPUs."""

CUDA = 3_000
"""MB of the machine's memory for a process that uses a GPU."""

CONTEXT = 1_500
"""MB of a GPU for its libraries and their caches."""

KEPT = 17
"""Numbers that a layer keeps for the backward pass, per token and unit of its width."""

STATISTICS = {None: 0, "fisher": 1, "grams": 2}
"""The size of an expert's statistics, in models in float32."""


@dataclass(frozen=True)
class Need:
    """The most that a job needs.

    Attributes:
        memory: MB of the machine's memory.
        device: MB of the GPU; 0 without one.
        minutes: its rough time.
    """

    memory: int
    device: int
    minutes: int


class Needs:
    """The needs of one benchmark's jobs, internally in bytes and seconds.

    Args:
        config: the benchmark.
        gpu: whether jobs use a GPU.
        extents: see `remerge.work.Jobs`.

    Attributes:
        whole: the base's weights, in float32.
        width: a weight as models compute with it.
        network: a model in training, without gradients: a linearised one also has theta_0 and its difference.
        module: the same as models compute with it.
        share: the part of the weights that experts change.
        seconds: the rough seconds of some work.
        answer: the number of tokens of the longest answer.
    """

    def __init__(
        self, config: Config, gpu: bool, extents: Mapping[str, Extent] = MappingProxyType({})
    ) -> None:
        self.config, self.gpu, self.size = config, gpu, size_of(config)
        self.whole = self.size.parameters * FLOAT32
        self.width = FLOAT32 // 2 if gpu and config.base.dtype == "bfloat16" else FLOAT32
        beside = 2 * self.whole if config.finetune.linear else 0
        self.network, self.module = self.whole + beside, self.size.parameters * self.width + beside
        # Adapters change some of the shape's 12 matrices of h² in a layer; experts change all.
        lora = config.finetune.lora
        self.share = 1 if lora is None else min(1, len(lora.targets) / 12)
        self.jobs = Jobs(config, extents)
        changed = self.share * self.size.parameters
        factors = self.size.parameters if lora is None else self._factors() / FLOAT32
        self.seconds = Estimate(config, self.size, gpu, changed, factors).seconds
        self.answer = max(extent.answer for extent in self.jobs.extents.values())

    def job(self, stage: str, arguments: Sequence[Any]) -> Need:
        """For a rule's job, from its stage and the arguments of its command.

        Raises:
            UserError: the benchmark has no such task or batch.
        """
        if stage == "experts":
            return self.expert(arguments[0])
        if stage in ("batch", "share"):
            batch = batch_of(self.config, arguments[0])
            if stage == "share" or not batch.shares(self.config):
                return self.batch(batch)
            stage = "records"  # computed by other jobs
        return self.stage(stage)

    def batch(self, batch: Batch) -> Need:
        """For choices and merges: the base, the one module that merges are written into, and the experts."""
        config, made = self.config, list(self._made(batch))
        tasks = list(dict.fromkeys(task for _, case in made for task in case.tasks))
        method = config.known.get(batch.method)
        vectors = self._vectors(tasks)
        variants = {variant.name: variant for variant, _ in made}.values()
        learned = list(filter(config.is_learned, variants))
        over = {parse(written)[0] for variant in learned for written in config.over(variant)} - {*UNPREPARED}
        # Besides the experts, one more that is being read, or the merged deltas of a merge that is rescaled.
        theta_0, more = self._theta_0(), self.share * self.whole
        if config.finetune.lora and not over:
            # The base that only factors change is in the module, and in its files when a merge is there.
            theta_0 = 0 if self.gpu and batch.method not in sources.OWN else theta_0
            more = more if len(learned) < len(variants) else 0
        held = [self.module, theta_0, more]
        passing, kept = self._forward(), 0.0
        if learned:
            inputs = config.learning.batch_size * max(len(case.tasks) for _, case in made)
            # On a GPU, recorded steps have memory of their own, beside that of the first step of a length.
            steps = self._backward(inputs) * (2 if self.gpu and config.base.reads == "text" else 1)
            passing, kept = max(passing, steps), len(tasks) * self._reference()
            if over:
                # Output heads then come from the experts' files; without a GPU they are memory-mapped.
                heads = self._head() if self.gpu and config.finetune.lora is None else 0
                prepared = max(self._prepared(tasks, method) for method in over) + len(tasks) * heads
                # A GPU reads experts from the machine's memory while their vectors are prepared.
                vectors = max(vectors, prepared) if self.gpu else vectors + prepared
            elif not config.finetune.lora:
                vectors = max(vectors, self._stacked(tasks))
        if method:
            again = self._factors() if config.finetune.lora else self.whole
            held.append(len(tasks) * (method.whole * again + STATISTICS[method.statistics] * self.whole))
        return self._need(sum(held) + vectors + passing, kept, self.jobs.batch(batch))

    def expert(self, task: str) -> Need:
        """For training: weights, gradients and AdamW's two moments in float32, and activations of layers.

        An existing expert is read, not trained.
        """
        config, recipe = self.config, self.config.finetune
        if existing(config, task) is not None:
            return self._need(2 * self.whole)
        trained = self.whole if recipe.lora is None else self._factors()
        # On a GPU, weights are copied to half precision when they are used.
        held = self.network + 3 * trained + (self.whole / 2 if self.gpu else 0)
        return self._need(held + self._backward(recipe.at_once), 0, self.jobs.expert(task))

    def stage(self, name: str) -> Need:
        """For a stage that neither trains experts nor merges."""
        config, tasks = self.config, list(self.config.tasks)
        if name in ("data", "lengths", "records", "tables", "figures", "report", "compare"):
            # No model runs in them, and an hour is enough for a download, too.
            return Need(2 * LIBRARIES, 0, 60)
        # Downloading a base and decomposing weights are not passes, and take no longer than all scores.
        beside = self.jobs.stage("scores") if name in ("base", "weights", "alignment") else []
        longest = max([*self.jobs.stage(name), *beside], key=self.seconds, default=NOTHING)
        if name == "base" and config.base.source == "miniature":
            return self._need(4 * self.whole + self._backward(config.base.miniature.batch_size), 0, longest)
        if name == "statistics":
            return self._need(self.module + 2 * self.whole + self._backward(1), 0, longest)
        if name in ("weights", "alignment", "exports"):
            held = self.module + self._theta_0() + self._vectors(tasks) + self.whole
            return self._need(held + self._forward(), 0, longest)
        # A model is in the machine's memory twice while it is loaded.
        held = self.module + (self._head() if self.gpu else self.whole)
        passing = self._forward()
        if name == "references":
            passing = max(passing, self._decoding())
        if name == "divergences":
            passing += 2 * self._logits(config.evaluation.batch_size, self.answer)
        return self._need(held + passing, self._reference(), longest)

    def _made(self, batch: Batch) -> Iterator[tuple[Variant, Case]]:
        """The merges of one process."""
        config = self.config
        cases = {plan: config.cases(plan) for plan in config.planned}
        for plan, variant in batch.choices:
            yield from ((variant, case) for case in config.tuning(variant, plan))
        groups = {variant.name: config.groups(variant) for variant, _ in batch.merges}
        for variant, group in batch.merges:
            plan = groups[variant.name][group]
            yield from ((variant, case) for case in cases[plan][group])

    def _need(self, held: float, references: float = 0, work: Work = NOTHING) -> Need:
        """The need, given the bytes of models and passes, the bytes kept off any GPU, and the work."""
        minutes = 2 + math.ceil(self.seconds(work) / 60)
        if not self.gpu:
            return Need(_mb(held + references) + LIBRARIES, 0, minutes)
        # Weights pass through the machine's memory, one model at a time.
        return Need(_mb(self.whole + references) + LIBRARIES + CUDA, _mb(held) + CONTEXT, minutes)

    def _theta_0(self) -> float:
        """The base's weights that experts change, as stored."""
        return self.share * self.size.parameters * self.size.width

    def _vectors(self, tasks: Sequence[str]) -> float:
        """Experts in memory, each in a dtype that holds the base's weights too, or adapters' factors."""
        if self.config.finetune.lora is not None:
            return len(tasks) * self._factors()
        return sum(self.size.parameters * width_of(self._stored(task)) for task in tasks)

    def _stored(self, task: str) -> frozenset[str]:
        """The dtypes of an expert that is a whole model and of the base; one trained here is in float32."""
        known = self.config.task(task)
        held = weights(known.expert, known.expert_revision) if known.expert else {}
        return self.size.dtypes | (dtypes_of(held) or SINGLE)

    def _stacked(self, tasks: Sequence[str]) -> float:
        """The deltas of whole models, or the models themselves if all have one half precision."""
        return len(tasks) * self.size.parameters * width_of(frozenset().union(*map(self._stored, tasks)))

    def _prepared(self, tasks: Sequence[str], over: str) -> float:
        """The task vectors as another method prepares them: whole, as most methods make them."""
        config, dtype = self.config, self.config.merge.delta_dtype
        whole = config.finetune.lora is None and not config.finetune.linear
        half = whole and self._stacked(tasks) < len(tasks) * self.whole
        halved = half if dtype is None else dtype == "bfloat16"
        dense = len(tasks) * self.share * self.whole / (2 if halved else 1)
        if config.finetune.lora is None or not decomposes(config, over):
            return dense
        # Factors of as many ranks as all adapters have, of which all share one side.
        return min(dense, (1 + len(tasks)) * len(tasks) * self._factors() / 2)

    def _factors(self) -> float:
        """One adapter, float32: h r numbers on either side of each adapted linear layer."""
        lora = self.config.finetune.lora
        assert lora is not None
        return 2 * lora.rank * len(lora.targets) * self.size.widths * FLOAT32

    def _backward(self, inputs: int) -> float:
        """A forward and backward pass."""
        return inputs * TOKENS * self.size.widths * KEPT * self.width + 3 * self._logits(inputs, self.answer)

    def _forward(self) -> float:
        """A forward pass of scoring, or the answers that are scored if they are free."""
        inputs = self.config.evaluation.batch_size
        tasks = self.config.tasks
        fed = {name: self.jobs.extents[name].answer for name, task in tasks.items() if task.classifies}
        # Longer options are fewer in a pass.
        tokens = max((min(n, OPTION) if tasks[name].chooses else n for name, n in fed.items()), default=0)
        judged = inputs * TOKENS * self.size.hidden * KEPT * self.width + 2 * self._logits(inputs, tokens)
        free = len(fed) < len(tasks)
        return max(judged, self._decoding() if free else 0)

    def _decoding(self) -> float:
        """The keys and values of answers that are decoded together; most models share some among heads."""
        tokens = ANSWERS_AT_ONCE * (TOKENS + self.answer)
        return 2 * tokens * self.size.widths * self.width if self.config.base.speaks else 0

    def _logits(self, inputs: int, tokens: int) -> float:
        """The logits of answers of so many tokens."""
        return inputs * tokens * self.size.words * FLOAT32 if self.config.base.speaks else 0

    def _reference(self) -> float:
        """The states that one expert's reference keeps, float32; for classes, next to nothing."""
        inputs = self.config.learning.references if self.config.base.speaks else 0
        return inputs * self.answer * self.size.hidden * FLOAT32

    def _head(self) -> float:
        """The output head of an expert that answers in words, as stored."""
        return self.size.words * self.size.hidden * self.size.width if self.config.base.speaks else 0


def _mb(count: float) -> int:
    return math.ceil(count / 1e6)
