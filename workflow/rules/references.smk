"""Experts' answers on their own inputs: from experts/ and data/ to references/<task>.json, .safetensors."""

RECORDS["references"] = expand(f"{B}/references/{{task}}.json", task=TASKS)


rule references:
    input:
        f"{B}/experts/{{task}}.json",
        f"{B}/data/{{task}}/validation.parquet",
        files_of(*SCORING, sources.PACKAGE / "measures/references.py"),
    output:
        f"{B}/references/{{task}}.json",
        f"{B}/references/{{task}}.safetensors",
    log:
        f"{B}/logs/references/{{task}}.log",
    threads: CONFIG.threads
    resources:
        gpu=1,
    params:
        settings=settings_of_task,
        inputs=CONFIG.learning.references,
    message:
        "Reference answers of the expert of {wildcards.task}"
    shell:
        f"python -m remerge references {RUN} {{wildcards.task}} {LOG}"
