"""How long prompts are in tokens: from base.json and data/ to lengths.json. Images have no length."""

RECORDS["lengths"] = [f"{B}/lengths.json"] if CONFIG.base.reads == "text" else []
CODE["lengths"] = files_of(*SCORING, sources.PACKAGE / "stages/lengths.py")


rule lengths:
    input:
        f"{B}/base.json",
        expand(f"{B}/data/{{task}}/{{split}}.parquet", task=TASKS, split=configuration.SPLITS),
        CODE["lengths"],
    output:
        f"{B}/lengths.json",
    log:
        f"{B}/logs/lengths.log",
    threads: CONFIG.threads
    resources:
        mem_mb=memory(of_stage("lengths")),
        runtime=minutes(of_stage("lengths")),
    params:
        code=texts_of(CODE["lengths"]),
        settings=configuration.digest([CONFIG.tasks[task] for task in TASKS]),
    message:
        "How long the prompts are"
    shell:
        f"python -m remerge.job lengths {RUN} {LOG}"
