"""Choices of parameters on validation scores, and merges: from the experts to records.

A rule for each batch: what it makes, and the files that this follows from. Reads base.json, experts/, data/, scores/,
references/, statistics/, external/; writes selection/<variant>.json, of other plans than the subsets'
selection/<plan>/<variant>.json, and merges/<variant>/<group>.jsonl.
"""

BATCHES = {}
"""Batches by the name of their rule: a method's name, numbered if it has several."""
for method in dict.fromkeys(batch.method for batch in batches(CONFIG).values()):
    own = [batch for batch in batches(CONFIG).values() if batch.method == method]
    for k, batch in enumerate(own, 1):
        BATCHES[f"merge_{method}" if len(own) == 1 else f"merge_{method}_{k}"] = batch

RECORDS["selection"] = [selection_of(*choice) for batch in BATCHES.values() for choice in batch.choices]
RECORDS["merges"] = [
    path for batch in BATCHES.values() for path in made_by(batch) if path not in RECORDS["selection"]
]

for rule_name, batch in BATCHES.items():

    rule:
        name:
            rule_name
        input:
            read_for(batch),
            code_of(batch.method),
        output:
            made_by(batch),
        log:
            f"{B}/logs/merges/{batch.name}.log",
        threads: CONFIG.threads
        resources:
            gpu=GPU,
            mem_mb=memory(of_batch(batch)),
            runtime=minutes(of_batch(batch)),
        params:
            settings=settings_of(batch),
            batch=batch.name,
        message:
            f"Merges by {batch.name}"
        shell:
            f"python -m remerge batch {RUN} {{params.batch:q}} {LOG}"
