"""Figures: from the records that each reads to figures/<name>.{pdf,svg,png,html}."""


rule figures:
    input:
        read_by("figure", FIGURES),
        code_of_exhibit,
    output:
        f"{B}/figures/{{name}}.pdf",
        report(f"{B}/figures/{{name}}.svg", category="Figures", labels={"figure": "{name}"}),
        f"{B}/figures/{{name}}.png",
        f"{B}/figures/{{name}}.html",
    log:
        f"{B}/logs/figures/{{name}}.log",
    wildcard_constraints:
        name=r"\w+",  # another name than those is refused in one line
    params:
        code=lambda wildcards: texts_of(code_of_exhibit(wildcards)),
    message:
        "Figure {wildcards.name}"
    shell:
        f"python -m remerge.job figures {RUN} {{wildcards.name:q}} {LOG}"
