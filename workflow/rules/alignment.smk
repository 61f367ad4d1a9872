"""How alike experts process inputs: from base.json, experts/ and data/ to alignment.json. The base runs."""

RECORDS["alignment"] = [f"{B}/alignment.json"]
CODE["alignment"] = files_of(*SCORING, sources.PACKAGE / "stages/alignment.py")


rule alignment:
    input:
        f"{B}/base.json",
        expand(f"{B}/experts/{{task}}.json", task=TASKS),
        expand(f"{B}/data/{{task}}/validation.parquet", task=TASKS),
        CODE["alignment"],
    output:
        f"{B}/alignment.json",
    log:
        f"{B}/logs/alignment.log",
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=memory(of_stage("alignment")),
        runtime=minutes(of_stage("alignment")),
    params:
        tasks=TASKS,
        code=texts_of(CODE["alignment"]),
    message:
        "CKA of what the experts add to the layers"
    shell:
        f"python -m remerge.job alignment {RUN} {LOG}"
