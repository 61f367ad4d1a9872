# The experiment, stage by stage: base, data, experts, references, scores, merges, report.
# snakemake --configfile config/<benchmark>.yaml --workflow-profile workflow/profiles/local
# Without --configfile it is config/demo.yaml.


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/base.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/experts.smk"
include: "workflow/rules/references.smk"
include: "workflow/rules/statistics.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/divergences.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/selection.smk"
include: "workflow/rules/external.smk"
include: "workflow/rules/merges.smk"
include: "workflow/rules/exports.smk"
include: "workflow/rules/records.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        f"{B}/report.html",
