rule figures:
    input:
        EVERY,
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
        f"python -m remerge figures {RUN} {{wildcards.name}} {LOG}"
