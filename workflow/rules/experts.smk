"""The experts and the multitask model: from base.json and data/ to experts/<task>.json and experts/<task>/."""

RECORDS["experts"] = expand(f"{B}/experts/{{model}}.json", model=MODELS[1:])


rule experts:
    input:
        f"{B}/base.json",
        data_of_expert,
    output:
        f"{B}/experts/{{task}}.json",
    log:
        f"{B}/logs/experts/{{task}}.log",
    priority: longest_first(of_expert)
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=memory(of_expert),
        runtime=minutes(of_expert),
    params:
        settings=settings_of_expert,
        source=source_of_expert,
    message:
        "Expert of {wildcards.task}"
    shell:
        f"python -m remerge.job experts {RUN} {{wildcards.task:q}} {LOG}"
