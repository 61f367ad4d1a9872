"""Every merge of a benchmark, judged by lm-evaluation-harness: the target is `results/<benchmark>/harness.csv`."""

import json
from pathlib import Path

import pandas as pd

from remerge.launch import project


include: str(project() / "Snakefile")


ASKED = "cola_choice,cola_said"  # the harness' own tasks, or those of the folder `harness`
CHAT = "--apply_chat_template" if CONFIG.base.family == "chat" else ""

if not CONFIG.base.speaks:
    refuse(
        UserError(f"base.family {CONFIG.base.family}: the harness judges words, and this answers by heads")
    )


def folder_of(wildcards):
    kind = "external" if wildcards.variant in CONFIG.external else "exports"
    return f"{B}/{kind}/{wildcards.variant}/{wildcards.subset}"


rule harness:
    input:
        [
            f"{B}/harness/{variant.name}/{'+'.join(tasks)}"
            for size in CONFIG.sizes
            for variant in CONFIG.makers(size)
            for tasks in CONFIG.subsets(size)
        ],
    output:
        f"{B}/harness.csv",
    localrule: True
    run:
        scores = [
            {"variant": folder.parent.name, "subset": folder.name, "task": task} | found
            for folder in map(Path, input)
            for file in folder.rglob("results_*.json")
            for task, found in json.loads(file.read_text())["results"].items()
        ]
        pd.DataFrame(scores).to_csv(output[0], index=False)


rule judge:
    input:
        folder_of,
    output:
        directory(f"{B}/harness/{{variant}}/{{subset}}"),
    log:
        f"{B}/logs/harness/{{variant}}/{{subset}}.log",
    wildcard_constraints:
        variant="[^/]+",
    resources:
        gpu=GPU,
    params:
        model=lambda wildcards, input: json.dumps({"pretrained": input[0], "dtype": "float32"}),
    message:
        "The merge of {wildcards.subset} by {wildcards.variant}, judged by the harness"
    shell:
        "lm_eval run --model hf --model_args {params.model:q} {CHAT} --tasks {ASKED} --include_path harness"
        " --batch_size 32 --output_path {output:q} > {log:q} 2>&1"
