"""Experts' answers on their own inputs: from experts/ and data/ to references/<task>.json, .safetensors."""

RECORDS["references"] = expand(f"{B}/references/{{task}}.json", task=TASKS)
CODE["references"] = files_of(*SCORING, sources.PACKAGE / "measures/references.py")


rule references:
    input:
        f"{B}/experts/{{task}}.json",
        inputs_of_references,
        CODE["references"],
    output:
        f"{B}/references/{{task}}.json",
        noted(
            f"{B}/references/{{task}}.safetensors",
            *expand(f"{B}/references/{{{{task}}}}@{{kind}}.safetensors", kind=CONFIG.stand_ins),
        ),
    log:
        f"{B}/logs/references/{{task}}.log",
    priority: FIRST
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=memory(of_stage("references")),
        runtime=minutes(of_stage("references")),
    params:
        batch_size=CONFIG.evaluation.batch_size,
        code=texts_of(CODE["references"]),
        settings=settings_of_task,
        inputs=CONFIG.learning.references,
    message:
        "Reference answers of the expert of {wildcards.task}"
    shell:
        f"python -m remerge.job references {RUN} {{wildcards.task:q}} {LOG}"
