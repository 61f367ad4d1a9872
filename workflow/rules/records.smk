CAPTIONS = Path(workflow.basedir) / "workflow/report"
EXHIBITS = sorted(file.stem for file in CAPTIONS.glob("*.rst"))
FIGURES = [name for name in EXHIBITS if "_figure" in name]
TABLES = [name for name in EXHIBITS if name not in FIGURES]

EVERY = [file for files in RECORDS.values() for file in files]
