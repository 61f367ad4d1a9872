"""The base: writes base.json, and base/ where it is pretrained here."""

RECORDS["base"] = [f"{B}/base.json"]


rule base:
    output:
        f"{B}/base.json",
    log:
        f"{B}/logs/base.log",
    priority: FIRST
    threads: CONFIG.base.miniature.threads if CONFIG.base.source == "miniature" else CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=memory(of_stage("base")),
        runtime=minutes(of_stage("base")),
    params:
        settings=configuration.digest(CONFIG.base, CONFIG.seed),
        source=source_of_base,
    message:
        "The base"
    shell:
        f"python -m remerge.job base {RUN} {LOG}"
