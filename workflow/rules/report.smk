rule report:
    input:
        EVERY,
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
