"""One merge as a checkpoint, on demand.

Reads base.json, experts/, what its variant needs of them, merges/; writes exports/<variant>/<task+task>/.
"""


rule exports:
    input:
        parts_of_export,
    output:
        directory(f"{B}/exports/{{variant}}/{{subset}}"),
    log:
        f"{B}/logs/exports/{{variant}}/{{subset}}.log",
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=memory(of_stage("exports")),
        runtime=minutes(of_stage("exports")),
    message:
        "The merge of {wildcards.subset} by {wildcards.variant}, as a checkpoint"
    shell:
        f"python -m remerge.job exports {RUN} {{wildcards.variant:q}} {{wildcards.subset:q}} {LOG}"
