"""The cost of a step of learning coefficients, as a multiple of the bare model's forward and backward pass.

    python benchmarks/learning.py                      # 50M parameters, T = 2 and 7, tied, untied, LoRA
    python benchmarks/learning.py --size 50M-words     # as many words as Qwen2 has
    python benchmarks/learning.py --vectors bfloat16   # as merge.delta_dtype says
    python benchmarks/learning.py --size 500M --device cuda --epochs 20

Both take the same inputs and apply the head at answer positions only; the bare model is given the experts'
distributions. The table is printed as markdown.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from random import Random

import torch
from methods import SIZES, in_turns, shapes
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from remerge.checkpoints.models import held
from remerge.deltas import LowRank, State
from remerge.families import Example
from remerge.families.causal_lm import CausalLM
from remerge.learn import fit, parts
from remerge.measures.references import Reference, side_by_side
from remerge.measures.words import word_head
from remerge.methods import find
from remerge.tau import Tau

STEPS = 6
RANK = 16


class Tokens(CausalLM):
    """Decoders without a tokenizer, since examples consist of tokens."""

    fill, limit = 0, 10**6

    def __init__(self) -> None:
        """Load nothing."""


def model(size: str, tied: bool, device: str) -> Qwen2ForCausalLM:
    """A Qwen2 with random weights."""
    named, given = shapes(**SIZES[size]), SIZES[size]
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=given["vocabulary"],
        hidden_size=given["hidden"],
        intermediate_size=given["inner"],
        num_hidden_layers=given["layers"],
        num_attention_heads=given["hidden"] // 64,
        num_key_value_heads=given["kv"] // 64,
        tie_word_embeddings=tied,
    )
    made = Qwen2ForCausalLM(config).eval().to(device)
    held = dict(made.named_parameters())
    assert all(held[name].shape == torch.Size(shape) for name, shape in named.items())
    return made


def vectors(base: State, count: int, dtype: torch.dtype) -> dict[str, Tau]:
    """Dense task vectors of all weights."""
    drawn = {name: 0.01 * torch.randn(count, *theta.shape) for name, theta in base.items()}
    return {name: tau.to(base[name].device, dtype) for name, tau in drawn.items()}


def adapters(base: State, count: int) -> dict[str, Tau]:
    """Low-rank task vectors of all matrices but the embedding, which is the head too."""
    inner = {name: theta for name, theta in base.items() if theta.ndim == 2 and "embed" not in name}
    return {name: [low_rank(theta) for _ in range(count)] for name, theta in inner.items()}


def low_rank(like: Tensor) -> LowRank:
    """A change of rank `RANK`."""
    n, m = like.shape
    B, A = torch.randn(n, RANK, device=like.device), torch.randn(RANK, m, device=like.device)
    return LowRank(B, A, 0.01)


def references(
    tokens: tuple[int, int], inputs: int, count: int, base: State, tau: Mapping[str, Tau], names: list[str]
) -> list[Reference]:
    """Inputs of each task, with answers of two tokens, and the states and head of its expert."""
    draw, made = Random(0), []
    words, width = base[names[0]].shape
    for task in range(count):
        length = draw.randint(*tokens)
        asked = [
            Example([draw.randrange(words) for _ in range(length)], [1, 2], str(task))
            for _ in range(STEPS * inputs)
        ]
        states = [torch.randn(2, width, device=base[names[0]].device) for _ in asked]
        head = word_head(names, partial(parts, base, base, tau, task))
        made.append(Reference(asked, states, head))
    return made


def bare(
    asked: CausalLM,
    whole: Qwen2ForCausalLM,
    given: list[Reference],
    objective: Callable[..., Tensor],
    experts: list[Tensor],
    epochs: int,
) -> None:
    """Do the same number of forward and backward passes on the same inputs, with gradients of all weights."""
    device = next(whole.parameters()).device
    whole.requires_grad_(True)
    for expert, some in zip(epochs * experts, epochs * steps(given), strict=True):
        batch = asked.collate([r.examples[i] for r, chosen in some for i in chosen], device)
        merged = asked.logits(whole, batch).log_softmax(-1)
        objective(expert, merged).sum().backward()
        whole.zero_grad(set_to_none=True)


def steps(given: list[Reference]) -> list[list[tuple[Reference, range]]]:
    """The inputs of each step."""
    inputs = len(given[0].examples) // STEPS
    return [[(r, range(k * inputs, (k + 1) * inputs)) for r in given] for k in range(STEPS)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", default="50M", choices=SIZES)
    parser.add_argument("--experts", type=int, nargs="+", default=[2, 7])
    parser.add_argument("--inputs", type=int, default=1, help="of each task at a step")
    parser.add_argument("--tokens", type=int, nargs=2, default=[48, 80], help="a task's prompts are as long")
    parser.add_argument("--vectors", default="float32", choices=("float32", "bfloat16"), help="if dense")
    parser.add_argument("--kinds", nargs="+", default=["tied", "untied", "LoRA"])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=1, help="on a GPU, the first steps are recorded")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    asked = Tokens()
    print("| size | kind | T | method | bare, s a step | a step, bares |")
    print("| --- | --- | ---: | --- | ---: | ---: |")
    for kind in args.kinds:
        whole = model(args.size, kind != "untied", args.device)
        base = {name: p.detach().clone() for name, p in whole.named_parameters()}
        for count in args.experts:
            dense = partial(vectors, base, count, getattr(torch, args.vectors))
            tau = adapters(base, count) if kind == "LoRA" else dense()
            for name in ("divmerge", "adamerging"):
                given = references(tuple(args.tokens), args.inputs, count, base, tau, held(whole).head)
                if name == "adamerging":
                    given = [reference.first_tokens for reference in given]
                chosen = find(name)
                objective = chosen.objective(chosen.settings({}))
                settings = {"level": "layer", "learning_rate": 0.01, "initial": 0.3, "epochs": args.epochs}
                settings |= {"batch_size": args.inputs, "seed": 0}
                run = partial(fit, asked, whole, base, tau, given, objective, **settings)
                said = [side_by_side(asked, whole, some) for some in steps(given)]
                runs = {"bare": partial(bare, asked, whole, given, objective, said, args.epochs), "fit": run}
                taken = in_turns(runs, args.rounds, args.device)
                print(
                    f"| {args.size} | {kind} | {count} | {name} | {taken['bare'] / STEPS / args.epochs:.3f} "
                    f"| {taken['fit'] / taken['bare']:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
