"""TIES by mergekit's command line: the variant `mergekit_ties`, after this file's name."""


def merged_by_mergekit(wildcards):
    models = ["base", *[f"experts/{task}" for task in wildcards.subset.split("+")]]
    return [f"{B}/{model}.json" for model in models]


rule mergekit_ties:
    input:
        merged_by_mergekit,
    output:
        directory(f"{B}/external/mergekit_ties/{{subset}}"),
    log:
        f"{B}/logs/external/mergekit_ties/{{subset}}.log",
    params:
        density=0.2,
        scale=1.0,
    message:
        "The merge of {wildcards.subset} by mergekit"
    script:
        "mergekit_ties.py"
