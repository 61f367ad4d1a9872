from remerge import exhibits

# Each stage's rule file adds what it writes under its own name; exhibits say by these names what they read.
EXHIBITS = exhibits.of(CONFIG)
TABLES = [name for name, exhibit in EXHIBITS.items() if exhibit.kind == "table"]
FIGURES = [name for name, exhibit in EXHIBITS.items() if exhibit.kind == "figure"]


def read_by(wildcards):
    """What an exhibit is made from: its own files, and the records that it reads."""
    exhibit = EXHIBITS[wildcards.name]
    return [*map(str, exhibit.files), *(path for what in exhibit.reads for path in RECORDS[what])]
