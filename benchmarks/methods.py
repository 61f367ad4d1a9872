"""The speed and memory of merging, as ratios within one run.

    python benchmarks/methods.py                                  # 50M parameters, a few minutes
    python benchmarks/methods.py --size 500M --experts 4          # Qwen2.5-0.5B's shape
    python benchmarks/methods.py --parts decomposition memory

Merging is compared with one streaming pass over the same tensors, with mergekit's in-process
`merge_state_dicts` (unless `--no-mergekit`), and with the thin SVD of the dense concatenation. Tables are
printed as markdown.
"""

import argparse
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import remerge
from remerge.deltas import LowRank
from remerge.methods.decomposition._basis import joint

SIZES = {
    "mini": {"hidden": 128, "inner": 256, "kv": 128, "layers": 3, "vocabulary": 432},
    "5M": {"hidden": 160, "inner": 640, "kv": 32, "layers": 8, "vocabulary": 12_000},
    "50M": {"hidden": 512, "inner": 2048, "kv": 128, "layers": 8, "vocabulary": 40_000},
    "50M-words": {"hidden": 256, "inner": 1024, "kv": 64, "layers": 12, "vocabulary": 151_936},
    "500M": {"hidden": 896, "inner": 4864, "kv": 128, "layers": 24, "vocabulary": 151_936},
}
METHODS = {
    "average": ("linear", {}),
    "task_arithmetic": ("task_arithmetic", {}),
    "multi_slerp": ("multislerp", {}),
    "karcher": ("karcher", {}),
    "ties": ("ties", {"density": 0.2}),
    "ties tensor": ("ties", {"density": 0.2}),
    "dare": ("dare_linear", {"density": 0.2}),
    "dare_ties": ("dare_ties", {"density": 0.2}),
    "breadcrumbs": ("breadcrumbs", {"density": 0.1}),
    "della": ("della", {"density": 0.2}),
    "model_stock": ("model_stock", {}),
    "sce": ("sce", {"select_topk": 0.1}),
    "ram": ("ram", {}),
}
"""mergekit's name and parameters for the same merge."""
OURS = (
    "lines",
    "metagpt",
    "consensus",
    "pcb",
    "drm_h",
    "drm_v",
    "tsv_m",
    "star",
    "cart",
    "iso_c",
    "iso_cts",
    "knots",
    "wudi",
    "doge",
)
"""Methods that mergekit does not have."""


def shapes(hidden: int, inner: int, kv: int, layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a Qwen2 with tied embeddings."""
    made: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for i in range(layers):
        at = f"model.layers.{i}"
        made |= {f"{at}.self_attn.{x}_proj.weight": (hidden, hidden) for x in "qo"}
        made |= {f"{at}.self_attn.{x}_proj.weight": (kv, hidden) for x in "kv"}
        made |= {f"{at}.self_attn.{x}_proj.bias": (n,) for x, n in (("q", hidden), ("k", kv), ("v", kv))}
        made |= {f"{at}.mlp.{x}_proj.weight": (inner, hidden) for x in ("gate", "up")}
        made |= {f"{at}.mlp.down_proj.weight": (hidden, inner)}
        made |= {f"{at}.{x}_layernorm.weight": (hidden,) for x in ("input", "post_attention")}
    return made | {"model.norm.weight": (hidden,)}


def world(
    size: str, count: int, dtype: torch.dtype, device: str
) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """A base and experts near it."""
    torch.manual_seed(0)

    def noise(shape: tuple[int, ...], scale: float) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device).normal_(0, scale)

    named = shapes(**SIZES[size])
    base = {name: noise(shape, 0.02) for name, shape in named.items()}
    return base, [
        {name: noise(shape, 0.002).add_(base[name]) for name, shape in named.items()} for _ in range(count)
    ]


def streaming_pass(base: dict[str, Tensor], experts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read every tensor once and write one result: the least that any merge must do."""
    out = {}
    for name, theta in base.items():
        total = theta.clone()
        for expert in experts:
            total.add_(expert[name])
        out[name] = total
    return out


def seconds(run: Callable[[], object], device: str = "cpu") -> float:
    """The wall time of one run."""
    gc.collect()
    started = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turns(runs: dict[str, Callable[[], object]], rounds: int, device: str = "cpu") -> dict[str, float]:
    """The shortest wall time of each; all run once per round, so that load slows all of them equally."""
    taken = [{label: seconds(run, device) for label, run in runs.items()} for _ in range(rounds)]
    return {label: min(times[label] for times in taken) for label in runs}


def call(label: str, base: dict[str, Tensor], experts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """One merge by remerge."""
    method, _, scope = label.partition(" ")
    return remerge.merge(method, base, experts, **({"scope": scope} if scope else {}))


def entrywise(args: argparse.Namespace) -> None:
    """Compare methods with one pass and with mergekit."""
    print("| size | dtype | T | method | seconds | passes | mergekit, s | times faster |")
    print("| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for dtype in args.dtype:
        for count in args.experts:
            base, experts = world(args.size, count, getattr(torch, dtype), args.device)
            labels = args.methods or list(METHODS)
            runs: dict[str, Callable[[], object]] = {"one pass": partial(streaming_pass, base, experts)}
            runs |= {label: partial(call, label, base, experts) for label in labels}
            took = in_turns(runs, args.rounds, args.device)
            head, one = f"| {args.size} | {dtype} | {count} |", took["one pass"]
            print(f"{head} one pass | {one:.3f} | 1.0 | | |", flush=True)
            theirs: dict[str, float] = {}
            for label in labels:
                name, params = METHODS.get(label, (None, {}))
                beside = "| |"
                if name and not args.no_mergekit:
                    if name not in theirs:
                        theirs[name] = seconds(mergekit(name, params, base, experts), args.device)
                    beside = f"{theirs[name]:.2f} | {theirs[name] / took[label]:.1f} |"
                print(f"{head} {label} | {took[label]:.3f} | {took[label] / one:.1f} | {beside}", flush=True)


def mergekit(
    name: str, params: dict[str, float], base: dict[str, Tensor], experts: list[dict[str, Tensor]]
) -> Callable[[], object]:
    """The same merge by mergekit."""
    from mergekit.merge_methods import merge_state_dicts

    models: dict[object, dict[str, Tensor]] = dict(enumerate(experts))
    if name not in ("karcher", "model_stock", "sce", "ram"):
        params = {"weight": 1.0, **params}
    if name in ("linear", "karcher"):
        return partial(merge_state_dicts, models, name, parameters=params)
    return partial(merge_state_dicts, {**models, "base": base}, name, base="base", parameters=params)


def decomposition(args: argparse.Namespace) -> None:
    """Compare the joint basis of DRM-H with the thin SVD of the concatenation."""
    print("| deltas | T | joint basis, s | thin SVD, s | times faster | singular values, rel. error |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    generator = torch.Generator().manual_seed(0)

    def line(label: str, stack: Tensor | list[LowRank], dense: Tensor) -> None:
        sigma, found = torch.empty(0), torch.empty(0)

        def thin_svd() -> None:
            nonlocal sigma
            _, sigma, _ = torch.linalg.svd(torch.cat(list(dense), dim=1), full_matrices=False)

        def joint_basis() -> None:
            nonlocal found
            deltas = stack.clone() if isinstance(stack, Tensor) else stack
            found = joint(deltas, relative=0.01)[1].norm(dim=(0, 2))

        took = in_turns({"ours": joint_basis, "svd": thin_svd}, 2)
        ours, svd = took["ours"], took["svd"]
        error = float(((found - sigma[: len(found)]) / sigma[: len(found)]).abs().max())
        print(
            f"| {label} | {len(dense)} | {ours:.4f} | {svd:.2f} | {svd / ours:.1f} | {error:.0e} |",
            flush=True,
        )

    for n, m in args.matrices:
        dense = torch.randn(7, n, m, generator=generator)
        line(f"full rank {n} × {m}", dense, dense)
    factors = [
        LowRank(torch.randn(1024, 16, generator=generator), torch.randn(16, 1024, generator=generator))
        for _ in range(5)
    ]
    line("rank 16, 1024 × 1024", factors, torch.stack([delta.dense() for delta in factors]))


def memory(args: argparse.Namespace) -> None:
    """Print the peak memory beyond inputs and output, with each merge in its own process."""
    print("| size | dtype | T | method | beyond inputs and output, MiB | largest tensors in float32 |")
    print("| --- | --- | ---: | --- | ---: | ---: |")
    for dtype in args.dtype:
        for label in args.methods or [*METHODS, "drm_h", "tsv_m"]:
            if label in ("della", "drm_h", "tsv_m") and args.size == "500M" and not args.methods:
                continue
            command = [sys.executable, __file__, "--probe", label, "--size", args.size, "--dtype", dtype]
            run = subprocess.run(
                [*command, "--experts", str(max(args.experts))], capture_output=True, check=True
            )
            found = json.loads(run.stdout)
            print(
                f"| {args.size} | {dtype} | {max(args.experts)} | {label} | {found['beyond'] / 2**20:.0f} | "
                f"{found['beyond'] / found['largest']:.2f} |",
                flush=True,
            )


def probe(args: argparse.Namespace) -> None:
    """Print what one merge adds to the peak resident memory; run this in a fresh process."""
    torch.set_num_threads(1)
    base, experts = world(args.size, args.experts[0], getattr(torch, args.dtype[0]), "cpu")
    small = {name: theta[:8] for name, theta in base.items()}
    call(args.probe, small, [{n: t[:8] for n, t in e.items()} for e in experts])
    # The peak is reset to what is resident now; getrusage would report the parent's.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    merged = call(args.probe, base, experts)
    after = resident("VmHWM")
    output = sum(theta.numel() * theta.element_size() for theta in merged.values())
    largest = 4 * max(theta.numel() for theta in base.values())
    print(json.dumps({"beyond": after - before - output, "largest": largest}))


def resident(field: str) -> int:
    """Bytes of resident memory: ``VmRSS`` for now, ``VmHWM`` for its peak (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def pair(text: str) -> tuple[int, int]:
    """``896x896`` as two numbers."""
    n, m = map(int, text.split("x"))
    return n, m


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = {"entrywise": entrywise, "decomposition": decomposition, "memory": memory}
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--size", choices=SIZES, default="50M")
    parser.add_argument("--experts", type=int, nargs="+", default=[2, 4, 7])
    parser.add_argument(
        "--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"]
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=[*METHODS, *OURS],
    )
    parser.add_argument("--matrices", nargs="+", type=pair, default=[(896, 896), (4864, 896)])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="the least time of so many runs is printed")
    parser.add_argument("--no-mergekit", action="store_true")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.probe:
        probe(args)
        return
    torch.set_num_threads(args.threads)
    where = (
        torch.cuda.get_device_name() if args.device != "cpu" else platform.processor() or platform.machine()
    )
    print(f"{where}, {args.threads} thread(s), torch {torch.__version__}")
    for part in args.parts:
        print()
        parts[part](args)


if __name__ == "__main__":
    main()
