rule reference:
    input:
        f"{B}/experts/{{task}}.json",
        f"{B}/data/{{task}}/validation.parquet",
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
        f"python -m remerge reference {RUN} {{wildcards.task}} {LOG}"


rule divergences:
    input:
        expand(f"{B}/experts/{{task}}.json", task=TASKS),
        expand(f"{B}/references/{{task}}.safetensors", task=TASKS),
    output:
        expand(f"{B}/divergences/{{task}}.json", task=TASKS),
    log:
        f"{B}/logs/divergences.log",
    threads: CONFIG.threads
    resources:
        gpu=1,
    message:
        "Divergences of every expert from every other"
    shell:
        f"python -m remerge divergences {RUN} {LOG}"


rule statistics:
    input:
        f"{B}/experts/{{task}}.json",
        f"{B}/data/{{task}}/train.parquet",
    output:
        f"{B}/statistics/{{task}}/{{kind}}.safetensors",
    log:
        f"{B}/logs/statistics/{{task}}_{{kind}}.log",
    threads: CONFIG.threads
    resources:
        gpu=1,
    params:
        settings=configuration.digest(CONFIG.statistics, CONFIG.seed),
    message:
        "Statistics ({wildcards.kind}) of the expert of {wildcards.task}"
    shell:
        f"python -m remerge statistics {RUN} {{wildcards.task}} {{wildcards.kind}} {LOG}"
