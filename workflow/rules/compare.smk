"""Benchmarks beside each other: from results/<benchmark>/ of runs that are finished to results/compare/<a+b>.html."""

CODE["compare"] = [*files_of(sources.PACKAGE / "report/compare.py"), *PAGES]


rule compare:
    input:
        lambda wildcards: [f"results/{name}/report.html" for name in wildcards.benchmarks.split("+")],
        CODE["compare"],
    output:
        "results/compare/{benchmarks}.html",
    log:
        "results/compare/{benchmarks}.log",
    wildcard_constraints:
        benchmarks=r"[A-Za-z0-9][A-Za-z0-9_.-]*([+][A-Za-z0-9][A-Za-z0-9_.-]*)+",
    params:
        code=texts_of(CODE["compare"]),
        folders=lambda wildcards: [f"results/{name}" for name in wildcards.benchmarks.split("+")],
    message:
        "{wildcards.benchmarks} beside each other"
    shell:
        f"python -m remerge.job compare {{params.folders:q}} --out {{output:q}} {LOG}"
