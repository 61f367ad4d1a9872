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
    message:
        "Reference answers of the expert of {wildcards.task}"
    shell:
        f"python -m remerge reference {RUN} {{wildcards.task}} {LOG}"


rule divergence:
    input:
        f"{B}/experts/{{task}}.json",
        expand(f"{B}/references/{{other}}.safetensors", other=TASKS),
    output:
        f"{B}/divergences/{{task}}.json",
    log:
        f"{B}/logs/divergences/{{task}}.log",
    threads: CONFIG.threads
    resources:
        gpu=1,
    message:
        "Divergences of the expert of {wildcards.task} from all"
    shell:
        f"python -m remerge divergence {RUN} {{wildcards.task}} {LOG}"
