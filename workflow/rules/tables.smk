rule tables:
    input:
        EVERY,
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
        f"python -m remerge tables {RUN} {{wildcards.name}} {LOG}"
