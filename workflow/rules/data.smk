"""A task's splits: writes data/<task>/{train,validation,test}.parquet, and what is found in them, data/<task>.json."""

RECORDS["data"] = expand(f"{B}/data/{{task}}.json", task=TASKS)


rule data:
    output:
        noted(*expand(f"{B}/data/{{{{task}}}}/{{split}}.parquet", split=configuration.SPLITS)),
        f"{B}/data/{{task}}.json",
    log:
        f"{B}/logs/data/{{task}}.log",
    priority: FIRST
    threads: CONFIG.threads
    resources:
        mem_mb=memory(of_stage("data")),
        runtime=minutes(of_stage("data")),
    params:
        settings=settings_of_task,
        source=source_of_task,
    message:
        "Data of {wildcards.task}"
    shell:
        f"python -m remerge.job data {RUN} {{wildcards.task:q}} {LOG}"
