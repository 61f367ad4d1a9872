"""How alike the experts' weights are: from base.json and experts/ to weights.json. No model runs."""

RECORDS["weights"] = [f"{B}/weights.json"]
CODE["weights"] = files_of(*SCORING, sources.PACKAGE / "stages/weights.py")


rule weights:
    input:
        f"{B}/base.json",
        expand(f"{B}/experts/{{task}}.json", task=TASKS),
        CODE["weights"],
    output:
        f"{B}/weights.json",
    log:
        f"{B}/logs/weights.log",
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=memory(of_stage("weights")),
        runtime=minutes(of_stage("weights")),
    params:
        tasks=TASKS,
        code=texts_of(CODE["weights"]),
    message:
        "Cosines, signs and pruning of the experts' weights"
    shell:
        f"python -m remerge.job weights {RUN} {LOG}"
