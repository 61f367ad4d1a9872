def parts_of_export(wildcards):
    """What an export is made of, and the record that its card quotes."""
    try:
        variant, tasks = CONFIG.variant(wildcards.variant), CONFIG.subset(wildcards.subset)
        if variant.name in CONFIG.external:
            raise UserError(
                f"{variant.name}: its merges lie in {B}/external/{variant.name}, as its rule wrote them"
            )
    except UserError as error:
        refuse(error)
    return [
        *experts_of(tasks),
        *needed_by(variant, tasks),
        f"{B}/merges/{wildcards.variant}/{len(tasks)}.jsonl",
    ]


rule exports:
    input:
        parts_of_export,
    output:
        directory(f"{B}/exports/{{variant}}/{{subset}}"),
    log:
        f"{B}/logs/exports/{{variant}}/{{subset}}.log",
    wildcard_constraints:
        variant=r"[^/]+",
        subset=r"[^/]+",
    threads: CONFIG.threads
    resources:
        gpu=1,
    message:
        "The merge of {wildcards.subset} by {wildcards.variant}, as a checkpoint"
    shell:
        f"python -m remerge exports {RUN} {{wildcards.variant:q}} {{wildcards.subset}} {LOG}"
