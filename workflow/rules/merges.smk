"""Merges: from the experts, what their variant needs of them, and its choice of parameters, to records.

A rule for each method: its variants, and the files that its results follow from. Reads base.json, experts/, data/,
scores/, references/, statistics/, selection/, external/; writes merges/<variant>/<group>.jsonl.
"""


def merged_from(wildcards):
    """What a variant's merges of a group are made from and judged by."""
    variant = CONFIG.variant(wildcards.variant)
    plan = CONFIG.groups(variant)[wildcards.group]
    cases = CONFIG.cases(plan)[wildcards.group]
    if variant.name in CONFIG.external:
        made = [f"{B}/external/{variant.name}/{case.name}" for case in cases]
    else:
        made = needed_by(variant, tasks_of(cases))
    tuned = [selection_of(plan, variant)] if CONFIG.is_tuned(variant) else []
    return [*experts_of(tasks_of(cases)), *made, *tuned]


def settings_of_variant(wildcards):
    """What a variant's records follow from, beside their inputs."""
    variant = CONFIG.variant(wildcards.variant)
    parts = [CONFIG.learning, CONFIG.merge.delta_dtype, CONFIG.seed, CONFIG.plans]
    return configuration.digest(variant, CONFIG.params(variant), parts)


RECORDS["merges"] = [
    f"{B}/merges/{variant.name}/{group}.jsonl"
    for variant in CONFIG.merge.variants
    for group in CONFIG.groups(variant)
]


for method in dict.fromkeys(variant.method for variant in CONFIG.merge.variants):

    rule:
        name:
            f"merge_{method}"
        input:
            merged_from,
            code_of(method),
        output:
            f"{B}/merges/{{variant}}/{{group}}.jsonl",
        log:
            f"{B}/logs/merges/{{variant}}/{{group}}.log",
        wildcard_constraints:
            variant=any_of(v.name for v in CONFIG.merge.variants if v.method == method),
            group=any_of(group for plan in CONFIG.planned for group in CONFIG.cases(plan)),
        threads: CONFIG.threads
        resources:
            gpu=1,
        params:
            settings=settings_of_variant,
        message:
            "Merges by {wildcards.variant}, {wildcards.group}"
        shell:
            f"python -m remerge merges {RUN} {{wildcards.variant:q}} {{wildcards.group:q}} {LOG}"
