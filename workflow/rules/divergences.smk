"""Every expert against every other: from experts/ and references/ to divergences/<task>.json."""

RECORDS["divergences"] = expand(f"{B}/divergences/{{task}}.json", task=TASKS)
CODE["divergences"] = files_of(*SCORING, sources.PACKAGE / "measures/references.py")


rule divergences:
    input:
        expand(f"{B}/experts/{{task}}.json", task=TASKS),
        expand(f"{B}/references/{{task}}.safetensors", task=TASKS),
        CODE["divergences"],
    output:
        expand(f"{B}/divergences/{{task}}.json", task=TASKS),
    log:
        f"{B}/logs/divergences.log",
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=memory(of_stage("divergences")),
        runtime=minutes(of_stage("divergences")),
    params:
        batch_size=CONFIG.evaluation.batch_size,
        code=texts_of(CODE["divergences"]),
    message:
        "Divergences of every expert from every other"
    shell:
        f"python -m remerge.job divergences {RUN} {LOG}"
