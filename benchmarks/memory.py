"""The peak memory of a merge, in models: experts, base, and the module that merges are written into.

    python benchmarks/memory.py                       # every kind of model, 2, 4 and 7 experts
    python benchmarks/memory.py --kinds decoder --experts 7 --width 1024

The models have random weights, some 50 million at a width of 512 and 200 million at 1024, and are prepared by
the pipeline's stages. Each merge runs in its own process, which samples its memory (the proportional set size
of Linux: pages of a file that is mapped twice count once) as models are read and merged, minus what it held
before (libraries, data), in multiples of the base as it is stored. In brackets is the most of it that is not
mapped from files, which the system cannot take back when memory is short. The table is printed as markdown.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForSequenceClassification

from remerge import config as configuration
from remerge.checkpoints.models import prepare_process
from remerge.methods import find
from remerge.miniature import FORMATS, digits
from remerge.plans import Case
from remerge.stages import base, data, experts, references
from remerge.stages._bench import Bench

SOURCES = Path(__file__).resolve().parents[1] / "models"
TEXTS = ("cola", "sst2", "qqp", "qnli", "mnli", "rte", "mrpc")
KINDS = {
    "decoder": ("causal_lm", "qwen2", "float32"),
    "decoder, half": ("causal_lm", "qwen2", "bfloat16"),
    "decoder, LoRA": ("causal_lm", "qwen2", "float32"),
    "encoder-decoder": ("seq2seq", "t5", "float32"),
    "encoder": ("classifier", "deberta", "float32"),
    "images": ("clip", "clip", "float32"),
}
"""Family, miniature with the tokenizer and configuration, dtype of weights."""
MERGES: dict[str, dict[str, Any]] = {
    "adamerging": {"inputs": 2, "epochs": 1},
    "divmerge": {"inputs": 2, "epochs": 1, "level": "layer"},
    "divmerge over ties": {"inputs": 2, "epochs": 1, "over": "ties"},
    "divmerge over knots": {"inputs": 2, "epochs": 1, "over": "knots"},
    "average": {},
    "ties": {},
    "drm_h": {},
}


def sizes(family: str, width: int) -> dict[str, Any]:
    """The sizes that replace a miniature's own."""
    heads = width // 64
    if family == "seq2seq":
        return {
            "d_model": width,
            "d_ff": 3 * width,
            "d_kv": 64,
            "num_heads": heads,
            "num_layers": 6,
            "num_decoder_layers": 6,
        }
    inner = {"hidden_size": width, "intermediate_size": 4 * width}
    layers = inner | {"num_hidden_layers": 12, "num_attention_heads": heads}
    own = {"causal_lm": {"num_key_value_heads": heads}, "classifier": {"pooler_hidden_size": width}}
    return {"vision_config": layers} if family == "clip" else layers | own[family]


def larger(given: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    """A configuration with other numbers, also in its parts; values that follow from them are left out."""
    kept = {key: value for key, value in given.items() if key != "layer_types"}
    return kept | {k: larger(given[k], v) if isinstance(v, dict) else v for k, v in by.items()}


def make(kind: str, width: int, folder: Path) -> None:
    """Write a base, an expert for each task, a configuration, and the output of all stages before merges."""
    family, name, dtype = KINDS[kind]
    source, place, tasks = SOURCES / f"miniature-{name}", folder / "base", {}
    given = larger(json.loads((source / "config.json").read_text()), sizes(family, width))
    config = AutoConfig.for_model(**given)
    torch.manual_seed(0)
    whole = getattr(transformers, config.architectures[0])(config).to(getattr(torch, dtype))
    whole.save_pretrained(place)
    for file in source.glob("*.json"):
        if not (place / file.name).exists():
            (place / file.name).write_bytes(file.read_bytes())
    for task in digits.TASKS if family == "clip" else TEXTS:
        answers = digits.TASKS[task].answers if family == "clip" else FORMATS[task].answers
        asked = {"image": "image"} if family == "clip" else {"prompt": FORMATS[task].prompt}
        given = {
            "source": "miniature",
            "sizes": dict.fromkeys(("train", "validation", "test"), 8),
            "expert": str(folder / task),
            "answers": list(answers),
        }
        tasks[task] = asked | given
        expert = whole
        if kind == "decoder, LoRA":
            lora = LoraConfig(
                r=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], init_lora_weights=False
            )
            expert = get_peft_model(whole, lora)
        elif family == "classifier":
            expert = AutoModelForSequenceClassification.from_pretrained(place, num_labels=len(answers))
        for parameter in expert.parameters():
            parameter.data += 0.001 * torch.randn_like(parameter)
        expert.save_pretrained(folder / task)
        if expert is not whole and family != "classifier":
            whole = expert.unload()
    raw = {
        "benchmark": "memory",
        "device": "cpu",
        "base": {"family": family, "source": str(place)},
        "tasks": tasks,
        "merge": {"variants": ["average"]},
        "finetune": {"multitask": False},
        "learning": {"references": 4},
    }
    (folder / "memory.yaml").write_text(yaml.safe_dump(raw))
    made = configuration.load(folder / "memory.yaml")
    base.run(made)
    for task in tasks:
        data.run(made, task)
        experts.run(made, task)
        references.run(made, task)


def probe(written: str, count: int) -> None:
    """Print the peak memory of one merge, in models; run this in a fresh process."""
    prepare_process(1, tf32=False)
    config = configuration.load(Path("memory.yaml"))
    bench, tasks = Bench(config), tuple(sorted(config.tasks)[:count])
    method = find(written.partition(" ")[0])
    settings = method.settings(MERGES[written])
    for task in tasks:
        bench.reference(task)
    sampler = Sampler("Pss", "Pss_Anon")
    case = Case("+".join(tasks), dict.fromkeys(tasks, 1), tasks)
    bench.load(method, settings, case)
    bench.make(method, settings, case, 0)
    whole, own = sampler.stop()
    model = sum(theta.nbytes for theta in bench.theta_0.tensors.values())
    print(f"{whole / model:.1f} ({own / model:.1f})")


class Sampler:
    """The largest growth of kinds of memory since it began, in bytes (Linux)."""

    def __init__(self, *fields: str) -> None:
        self.fields, self.before = fields, [used(field) for field in fields]
        self.most = [0 for _ in fields]
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        while not self.ended.wait(0.01):
            grown = [used(field) - before for field, before in zip(self.fields, self.before, strict=True)]
            self.most = list(map(max, self.most, grown))

    def stop(self) -> list[int]:
        """End the sampling; the largest growth of each kind."""
        self.ended.set()
        self.thread.join()
        return self.most


def used(field: str) -> int:
    """Bytes of this process's memory, by a field of Linux's summary of its mappings."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(rollup.split(f"\n{field}:")[1].split()[0]) * 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--merges", nargs="+", choices=MERGES, default=list(MERGES))
    parser.add_argument("--experts", nargs="+", type=int, default=[2, 4, 7])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--probe", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    if args.probe:
        probe(args.probe[0], int(args.probe[1]))
        return
    os.environ["TQDM_DISABLE"] = "1"
    print(f"| models | T | {' | '.join(args.merges)} |\n| --- | ---: |{' ---: |' * len(args.merges)}")
    for kind in args.kinds:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            make(kind, args.width, Path(folder))
            for count in args.experts:
                found = []
                for merge in args.merges:
                    command = [sys.executable, __file__, "--probe", merge, str(count)]
                    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                    found.append(run.stdout.strip())
                print(f"| {kind} | {count} | {' | '.join(found)} |", flush=True)
            os.chdir("/")


if __name__ == "__main__":
    main()
