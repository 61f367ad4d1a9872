"""Base, multitask model and experts on every task: from experts/ and data/ to scores/<model>.json."""

RECORDS["scores"] = expand(f"{B}/scores/{{model}}.json", model=MODELS)
CODE["scores"] = files_of(*SCORING)


rule scores:
    input:
        expand(f"{B}/experts/{{model}}.json", model=MODELS[1:]),
        f"{B}/base.json",
        expand(f"{B}/data/{{task}}/test.parquet", task=TASKS),
        CODE["scores"],
    output:
        expand(f"{B}/scores/{{model}}.json", model=MODELS),
    log:
        f"{B}/logs/scores.log",
    priority: FIRST
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=memory(of_stage("scores")),
        runtime=minutes(of_stage("scores")),
    params:
        batch_size=CONFIG.evaluation.batch_size,
        code=texts_of(CODE["scores"]),
        settings=configuration.digest([CONFIG.tasks[task] for task in TASKS]),
    message:
        "Scores of base, multitask model and every expert on every task"
    shell:
        f"python -m remerge.job scores {RUN} {LOG}"
