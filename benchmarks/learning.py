"""What a step of learned coefficients costs, as a multiple of the bare model's forward and backward pass.

    python benchmarks/learning.py                      # 50M parameters, T = 2 and 7, tied and untied
    python benchmarks/learning.py --size 500M --device cuda

Both take the same inputs and put the head on answer positions alone. The table is printed as markdown.
"""

import argparse
from collections.abc import Callable
from functools import partial
from random import Random

import torch
from methods import SIZES, in_turns, shapes
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from remerge.families import Example
from remerge.families.causal_lm import CausalLM
from remerge.learn import fit
from remerge.measures.references import Reference, side_by_side
from remerge.methods import find

STEPS = 6


class Tokens(CausalLM):
    """Decoders without a tokenizer: examples are made of tokens."""

    fill = 0

    def __init__(self) -> None:
        """Nothing to load."""


def model(size: str, tied: bool, device: str) -> Qwen2ForCausalLM:
    """A Qwen2 of random weights."""
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


def references(count: int, tokens: tuple[int, int], vocabulary: int, answers: bool) -> list[Reference]:
    """Inputs of each of ``count`` tasks, whose answers have two tokens."""
    draw, made = Random(0), []
    for task in range(count):
        length = draw.randint(*tokens)
        inputs = [
            Example([draw.randrange(vocabulary) for _ in range(length)], [1, 2], str(task))
            for _ in range(STEPS)
        ]
        rows = [torch.randn(2, vocabulary).log_softmax(-1) for _ in inputs]
        made.append(Reference(inputs, rows) if answers else Reference(inputs, rows).first_tokens)
    return made


def bare(
    asked: CausalLM, whole: Qwen2ForCausalLM, given: list[Reference], objective: Callable[..., Tensor]
) -> None:
    """As many forward and backward passes on the same inputs, all gradients of weights taken."""
    device = next(whole.parameters()).device
    whole.requires_grad_(True)
    for step in range(STEPS):
        batch = asked.collate([reference.examples[step] for reference in given], device)
        merged = asked.logits(whole, batch).log_softmax(-1)
        expert = side_by_side([reference.log_probs[step] for reference in given], merged.shape[1], device)
        objective(expert, merged).sum().backward()
        whole.zero_grad(set_to_none=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", default="50M", choices=SIZES)
    parser.add_argument("--experts", type=int, nargs="+", default=[2, 7])
    parser.add_argument("--tokens", type=int, nargs=2, default=[48, 80], help="a task's prompts are as long")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    asked = Tokens()
    print("| size | head | T | method | bare, s a step | a step, bares |")
    print("| --- | --- | ---: | --- | ---: | ---: |")
    for tied in (True, False):
        whole = model(args.size, tied, args.device)
        base = {name: p.detach().clone() for name, p in whole.named_parameters()}
        for count in args.experts:
            tau = {
                name: 0.01 * torch.randn(count, *theta.shape, device=args.device)
                for name, theta in base.items()
            }
            for name in ("divmerge", "adamerging"):
                given = references(
                    count, tuple(args.tokens), SIZES[args.size]["vocabulary"], name == "divmerge"
                )
                chosen = find(name)
                objective = chosen.objective(chosen.settings({}))
                settings = {"level": "layer", "learning_rate": 0.01, "initial": 0.3, "epochs": 1}
                run = partial(
                    fit, asked, whole, base, tau, given, objective, **settings, batch_size=1, seed=0
                )
                runs = {"bare": partial(bare, asked, whole, given, objective), "fit": run}
                taken = in_turns(runs, args.rounds, args.device)
                head = "tied" if tied else "untied"
                print(
                    f"| {args.size} | {head} | {count} | {name} | {taken['bare'] / STEPS:.3f} "
                    f"| {taken['fit'] / taken['bare']:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
