"""Choices of parameters on validation scores, and merges: from the experts to records.

A rule for each batch: what it makes, and the files that this follows from. Reads base.json, experts/, data/, scores/,
references/, statistics/, external/; writes selection/<variant>.json, of other plans than the subsets'
selection/<plan>/<variant>.json, and merges/<variant>/<group>.jsonl. Where several jobs share in a batch, a rule for
these too: they write to journals.
"""

BATCHES = by_rule(CONFIG)

RECORDS["selection"] = [selection_of(*choice) for batch in BATCHES.values() for choice in batch.choices]
RECORDS["merges"] = [
    path for batch in BATCHES.values() for path in made_by(batch) if path not in RECORDS["selection"]
]

for rule_name, batch in BATCHES.items():
    shares = [str(k) for k, _ in enumerate(batch.shares(CONFIG), 1)]
    code = code_of(batch)
    need = of_stage("records") if shares else of_batch(batch, 1)
    if shares:
        need_of_share = of_batch(batch, len(shares))

        rule:
            name:
                f"{rule_name}_share"
            input:
                read_for(batch),
                code,
            output:
                temp(touch(f"{B}/journal/shares/{batch.name}/{{share}}")),
            log:
                f"{B}/logs/merges/{batch.name}_{{share}}.log",
            wildcard_constraints:
                share=any_of(shares),
            priority: longest_first(need_of_share)
            threads: CONFIG.threads
            resources:
                gpu=GPU,
                mem_mb=memory(need_of_share),
                runtime=minutes(need_of_share),
            params:
                settings=settings_of(batch),
                code=texts_of(code),
                batch=batch.name,
            message:
                f"Merges by {batch.name}, share {{wildcards.share}} of {len(shares)}"
            shell:
                f"python -m remerge.job share {RUN} {{params.batch:q}} {{wildcards.share}} {LOG}"

    rule:
        name:
            rule_name
        input:
            read_for(batch),
            expand(f"{B}/journal/shares/{batch.name}/{{share}}", share=shares),
            code,
        output:
            made_by(batch),
        log:
            f"{B}/logs/merges/{batch.name}.log",
        priority: longest_first(need)
        threads: CONFIG.threads
        resources:
            # Also to collect shares: keys in their journals name the precision, which is another without a GPU.
            gpu=GPU,
            mem_mb=memory(need),
            runtime=minutes(need),
        params:
            settings=settings_of(batch),
            code=texts_of(code),
            batch=batch.name,
        message:
            f"Merges by {batch.name}"
        shell:
            f"python -m remerge.job batch {RUN} {{params.batch:q}} {LOG}"
