"""Merges: from the experts, what their variant needs of them, and its choice of parameters, to records.

A rule for each method: its variants, and the files that its results follow from. Reads base.json, experts/, data/,
scores/, references/, statistics/, selection/, external/; writes merges/<variant>/<group>.jsonl.
"""

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
