"""Figures: from the records that each reads to figures/<name>.{pdf,svg,png,html}."""


rule figures:
    input:
        read_by,
    output:
        f"{B}/figures/{{name}}.pdf",
        report(f"{B}/figures/{{name}}.svg", category="Figures", labels={"figure": "{name}"}),
        f"{B}/figures/{{name}}.png",
        f"{B}/figures/{{name}}.html",
    log:
        f"{B}/logs/figures/{{name}}.log",
    wildcard_constraints:
        name=any_of(FIGURES),
    message:
        "Figure {wildcards.name}"
    shell:
        f"python -m remerge.job figures {RUN} {{wildcards.name:q}} {LOG}"
