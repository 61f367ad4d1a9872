"""Tables: from the records that each reads to tables/<name>.{csv,md,tex,html}."""


rule tables:
    input:
        read_by("table", TABLES),
        code_of_exhibit,
    output:
        report(f"{B}/tables/{{name}}.csv", category="Tables", labels={"table": "{name}"}),
        f"{B}/tables/{{name}}.md",
        f"{B}/tables/{{name}}.tex",
        f"{B}/tables/{{name}}.html",
    log:
        f"{B}/logs/tables/{{name}}.log",
    wildcard_constraints:
        name=r"\w+",  # another name than those is refused in one line
    params:
        code=lambda wildcards: texts_of(code_of_exhibit(wildcards)),
    message:
        "Table {wildcards.name}"
    shell:
        f"python -m remerge.job tables {RUN} {{wildcards.name:q}} {LOG}"
