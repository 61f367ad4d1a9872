rule score:
    input:
        weights_of,
        expand(f"{B}/data/{{task}}/test.parquet", task=TASKS),
    output:
        f"{B}/scores/{{model}}.json",
    log:
        f"{B}/logs/scores/{{model}}.log",
    threads: CONFIG.threads
    resources:
        gpu=1,
    params:
        settings=configuration.digest([CONFIG.tasks[task] for task in TASKS]),
    message:
        "Scores of {wildcards.model} on every task"
    shell:
        f"python -m remerge score {RUN} {{wildcards.model}} {LOG}"
