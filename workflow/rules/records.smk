CAPTIONS = Path(workflow.basedir) / "workflow/report"
EXHIBITS = sorted(file.stem for file in CAPTIONS.glob("*.rst"))
FIGURES = [name for name in EXHIBITS if "_figure" in name]
TABLES = [name for name in EXHIBITS if name not in FIGURES]

RECORDS = [
    f"{B}/base.json",
    *expand(f"{B}/experts/{{model}}.json", model=MODELS[1:]),
    *expand(f"{B}/scores/{{model}}.json", model=MODELS),
    *expand(f"{B}/references/{{task}}.json", task=TASKS),
    *expand(f"{B}/divergences/{{task}}.json", task=TASKS),
    *[f"{B}/merges/{v.name}/{size}.jsonl" for v in CONFIG.merge.variants for size in CONFIG.sizes],
    *[f"{B}/selection/{v.name}.json" for v in CONFIG.merge.variants if sources.known()[v.method].learned],
]
