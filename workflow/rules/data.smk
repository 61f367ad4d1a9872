"""A task's splits: writes data/<task>/{train,validation,test}.parquet."""


rule data:
    output:
        noted(*expand(f"{B}/data/{{{{task}}}}/{{split}}.parquet", split=["train", "validation", "test"])),
    log:
        f"{B}/logs/data/{{task}}.log",
    threads: CONFIG.threads
    params:
        settings=settings_of_task,
        source=source_of_task,
    message:
        "Data of {wildcards.task}"
    shell:
        f"python -m remerge data {RUN} {{wildcards.task}} {LOG}"
