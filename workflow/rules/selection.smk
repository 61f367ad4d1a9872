"""The parameters that a configuration leaves open, chosen on validation scores.

Reads base.json, experts/, data/, references/, statistics/; writes selection/<variant>.json, of other plans than the
subsets' selection/<plan>/<variant>.json.
"""

RECORDS["selection"] = [f"{B}/selection/{name}.json" for name in SELECTED]


rule selection:
    input:
        selected_from,
    output:
        f"{B}/selection/{{selected}}.json",
    log:
        f"{B}/logs/selection/{{selected}}.log",
    wildcard_constraints:
        selected=any_of(SELECTED),
    threads: CONFIG.threads
    resources:
        gpu=1,
    params:
        settings=settings_of_selection,
        which=plan_and_variant,
    message:
        "Parameters of {wildcards.selected}, chosen on validation scores"
    shell:
        f"python -m remerge selection {RUN} {{params.which}} {LOG}"
