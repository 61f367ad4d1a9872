"""One merge as a checkpoint, on demand.

Reads base.json, experts/, what its variant needs of them, merges/; writes exports/<variant>/<task+task>/. A rule for each
variant: Snakemake gives a cluster's job its wildcards as one text with commas between them, and names of variants have some.
"""

for number, variant in enumerate(CONFIG.merge.variants, 1):

    rule:
        name:
            f"exports_{number}"
        input:
            parts_of_export(variant),
        output:
            directory(f"{B}/exports/{variant.name}/{{subset}}"),
        log:
            f"{B}/logs/exports/{variant.name}/{{subset}}.log",
        threads: CONFIG.threads
        resources:
            gpu=GPU,
            mem_mb=memory(of_stage("exports")),
            runtime=minutes(of_stage("exports")),
        params:
            variant=variant.name,
        message:
            "The merge of {wildcards.subset} by {params.variant}, as a checkpoint"
        shell:
            f"python -m remerge.job exports {RUN} {{params.variant:q}} {{wildcards.subset:q}} {LOG}"


rule exports:
    input:
        no_such_export,
    output:
        directory(f"{B}/exports/{{unknown}}/{{subset}}"),
    localrule: True
