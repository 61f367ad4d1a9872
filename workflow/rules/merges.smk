def experts_of(tasks):
    """What every merge of these tasks reads."""
    return [
        f"{B}/base.json",
        *expand(f"{B}/experts/{{task}}.json", task=tasks),
        *expand(f"{B}/data/{{task}}/test.parquet", task=tasks),
        *expand(f"{B}/scores/{{task}}.json", task=tasks),
    ]


def references_of(tasks):
    return expand(f"{B}/references/{{task}}.safetensors", task=tasks)


RECORDS["merges"] = [
    f"{B}/merges/{variant.name}/{size}.jsonl" for variant in CONFIG.merge.variants for size in CONFIG.sizes
]
RECORDS["selection"] = [
    f"{B}/selection/{variant.name}.json"
    for variant in CONFIG.merge.variants
    if sources.known()[variant.method].learned
]

SELECTION_TASKS = sorted({task for subset in CONFIG.initial_subsets() for task in subset})


for variant in CONFIG.merge.variants:

    slug = re.sub(r"\W+", "_", variant.name)
    files = [str(file) for file in sources.sources_of(variant.method, variant.params)]
    kind = sources.known()[variant.method].statistics
    more = expand(f"{B}/statistics/{{task}}/{kind}.safetensors", task=TASKS) if kind else []

    if sources.known()[variant.method].learned:

        rule:
            name:
                f"select_{slug}"
            input:
                experts_of(SELECTION_TASKS),
                references_of(SELECTION_TASKS),
                files,
            output:
                f"{B}/selection/{variant.name}.json",
            log:
                f"{B}/logs/selection/{variant.name}.log",
            threads: CONFIG.threads
            resources:
                gpu=1,
            params:
                settings=configuration.digest(variant, CONFIG.learning, CONFIG.merge.delta_dtype),
                variant=variant.name,
            message:
                "Settings of {params.variant}, chosen on validation scores"
            shell:
                f"python -m remerge selection {RUN} {{params.variant:q}} {LOG}"

        more = [f"{B}/selection/{variant.name}.json", *references_of(TASKS)]

    rule:
        name:
            f"merge_{slug}"
        input:
            experts_of(TASKS),
            more,
            files,
        output:
            f"{B}/merges/{variant.name}/{{size}}.jsonl",
        log:
            f"{B}/logs/merges/{variant.name}/{{size}}.log",
        threads: CONFIG.threads
        resources:
            gpu=1,
        params:
            settings=configuration.digest(variant, CONFIG.learning, CONFIG.merge.delta_dtype),
            variant=variant.name,
        message:
            "Merges of {wildcards.size} tasks by {params.variant}"
        shell:
            f"python -m remerge merges {RUN} {{params.variant:q}} {{wildcards.size}} {LOG}"
