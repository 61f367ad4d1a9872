"""The page: from records, tables/ and figures/ to report.html."""

CODE["report"] = [*files_of(sources.PACKAGE / "stages/report.py"), *PAGES]


rule report:
    input:
        [RECORDS[what] for what in sorted(READ)],
        SHOWN,
        CODE["report"],
    output:
        f"{B}/report.html",
    log:
        f"{B}/logs/report.log",
    params:
        code=texts_of(CODE["report"]),
    message:
        "The report, {output}"
    shell:
        f"python -m remerge.job report {RUN} {LOG}"
