"""The exhibits of this benchmark: which tables and figures it makes."""

from remerge import exhibits

# Each stage's rule file adds what it writes under its own name; exhibits say by these names what they read.
EXHIBITS = exhibits.of(CONFIG)
TABLES = [name for name, exhibit in EXHIBITS.items() if exhibit.kind == "table"]
FIGURES = [name for name, exhibit in EXHIBITS.items() if exhibit.kind == "figure"]

READ = {"base", "data", "lengths", "experts", "scores", "merges"}.union(
    *(exhibit.reads for exhibit in EXHIBITS.values())
)
"""The stages of which the page or an exhibit reads the records."""
