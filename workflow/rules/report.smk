CAPTIONS = Path(workflow.basedir) / "workflow/report"
EXHIBITS = sorted(file.stem for file in CAPTIONS.glob("*.rst"))
FIGURES = [name for name in EXHIBITS if "_figure" in name]
TABLES = [name for name in EXHIBITS if name not in FIGURES]

RECORDS = [
    f"{B}/base.json",
    *expand(f"{B}/experts/{{model}}.json", model=MODELS[1:]),
    *expand(f"{B}/scores/{{model}}.json", model=MODELS),
    *expand(f"{B}/references/{{task}}.json", task=TASKS),
    *expand(f"{B}/divergences/{{task}}.json", task=TASKS),
    *[f"{B}/merges/{v.name}/{size}.jsonl" for v in CONFIG.merge.variants for size in CONFIG.sizes],
    *[f"{B}/selection/{v.name}.json" for v in CONFIG.merge.variants if sources.learns(v.method)],
]


rule table:
    input:
        RECORDS,
    output:
        report(f"{B}/tables/{{name}}.csv", caption="../report/{name}.rst", category="Tables"),
        f"{B}/tables/{{name}}.md",
        f"{B}/tables/{{name}}.tex",
    log:
        f"{B}/logs/tables/{{name}}.log",
    wildcard_constraints:
        name="|".join(TABLES),
    message:
        "Table {wildcards.name}"
    shell:
        f"python -m remerge table {RUN} {{wildcards.name}} {LOG}"


rule figure:
    input:
        RECORDS,
    output:
        f"{B}/figures/{{name}}.pdf",
        report(f"{B}/figures/{{name}}.svg", caption="../report/{name}.rst", category="Figures"),
        f"{B}/figures/{{name}}.png",
    log:
        f"{B}/logs/figures/{{name}}.log",
    wildcard_constraints:
        name="|".join(FIGURES),
    message:
        "Figure {wildcards.name}"
    shell:
        f"python -m remerge figure {RUN} {{wildcards.name}} {LOG}"


rule report:
    input:
        RECORDS,
        expand(f"{B}/tables/{{name}}.csv", name=TABLES),
        expand(f"{B}/figures/{{name}}.svg", name=FIGURES),
    output:
        f"{B}/report.html",
    log:
        f"{B}/logs/report.log",
    message:
        "The report, {output}"
    shell:
        f"python -m remerge report {RUN} {LOG}"
