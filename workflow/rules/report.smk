"""The page: from records, tables/ and figures/ to report.html."""


rule report:
    input:
        [RECORDS[what] for what in sorted(READ)],
        expand(f"{B}/tables/{{name}}.html", name=TABLES),
        expand(f"{B}/figures/{{name}}.html", name=FIGURES),
    output:
        f"{B}/report.html",
    log:
        f"{B}/logs/report.log",
    message:
        "The report, {output}"
    shell:
        f"python -m remerge.job report {RUN} {LOG}"
