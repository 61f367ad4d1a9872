"""The parameters that a configuration leaves open, chosen on validation scores.

Reads base.json, experts/, data/, references/, statistics/; writes selection/<variant>.json, of other plans than the
subsets' selection/<plan>/<variant>.json.
"""


def selected(plan, variant):
    """The name of a choice."""
    return variant.name if plan == "subsets" else f"{plan}/{variant.name}"


def selection_of(plan, variant):
    """The file of a choice."""
    return f"{B}/selection/{selected(plan, variant)}.json"


SELECTED = {
    selected(plan, variant): (plan, variant)
    for variant in CONFIG.merge.variants
    if CONFIG.is_tuned(variant)
    for plan in dict.fromkeys(CONFIG.groups(variant).values())
}
RECORDS["selection"] = [f"{B}/selection/{name}.json" for name in SELECTED]


def selected_from(wildcards):
    """What a choice is made from: the merges that it is tuned on."""
    plan, variant = SELECTED[wildcards.selected]
    tasks = tasks_of(CONFIG.planned[plan].tuning(CONFIG.cases(plan)))
    validation = expand(f"{B}/data/{{task}}/validation.parquet", task=tasks)
    return [*experts_of(tasks), *validation, *needed_by(variant, tasks), *code_of(variant.method)]


def plan_and_variant(wildcards):
    plan, variant = SELECTED[wildcards.selected]
    return f"{variant.name} {plan}"


def settings_of_selection(wildcards):
    plan, variant = SELECTED[wildcards.selected]
    parts = [CONFIG.learning, CONFIG.merge.delta_dtype, CONFIG.seed, CONFIG.planned[plan]]
    return configuration.digest(variant, CONFIG.params(variant), parts)


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
