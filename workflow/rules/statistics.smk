"""The statistics that fisher and regmean take of an expert: from experts/ and data/ to statistics/<task>/<kind>.safetensors."""

CODE["statistics"] = files_of(*SCORING, sources.PACKAGE / "measures/curvature.py")


rule statistics:
    input:
        f"{B}/experts/{{task}}.json",
        f"{B}/data/{{task}}/train.parquet",
        CODE["statistics"],
    output:
        noted(f"{B}/statistics/{{task}}/{{kind}}.safetensors"),
    log:
        f"{B}/logs/statistics/{{task}}_{{kind}}.log",
    wildcard_constraints:
        kind=any_of(["fisher", "grams"]),
    priority: FIRST
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=memory(of_stage("statistics")),
        runtime=minutes(of_stage("statistics")),
    params:
        code=texts_of(CODE["statistics"]),
        settings=configuration.digest(CONFIG.statistics, CONFIG.seed),
    message:
        "Statistics ({wildcards.kind}) of the expert of {wildcards.task}"
    shell:
        f"python -m remerge.job statistics {RUN} {{wildcards.task:q}} {{wildcards.kind:q}} {LOG}"
