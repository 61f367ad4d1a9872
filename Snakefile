# The experiment, stage by stage: base, data, experts, references, scores, merges, report.
# snakemake --configfile config/<benchmark>.yaml --workflow-profile workflow/profiles/local
# The default is config/demo.yaml.


include: "workflow/rules/common.smk"


# Only under --software-deployment-method apptainer.
container: CONFIG.container or "remerge.sif"


include: "workflow/rules/inputs.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/base.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/lengths.smk"
include: "workflow/rules/experts.smk"
include: "workflow/rules/references.smk"
include: "workflow/rules/statistics.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/divergences.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/alignment.smk"
include: "workflow/rules/external.smk"
include: "workflow/rules/merges.smk"
include: "workflow/rules/exports.smk"
include: "workflow/rules/records.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/compare.smk"


# Seconds each: a cluster's queue would take longer.
localrules:
    all,
    tables,
    figures,
    report,
    compare,


onerror:
    note("the same command again continues from here: what is finished is kept")


rule all:
    default_target: True
    input:
        # Each by itself: a file that was deleted is made again though the page is there.
        sorted(WORKED_FROM),
        [RECORDS[what] for what in sorted(READ)],
        SHOWN,
        f"{B}/report.html",
