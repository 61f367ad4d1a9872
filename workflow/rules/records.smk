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

SHOWN = [
    *expand(f"{B}/tables/{{name}}.{{form}}", name=TABLES, form=["csv", "md", "tex", "html"]),
    *expand(f"{B}/figures/{{name}}.{{form}}", name=FIGURES, form=["pdf", "svg", "png", "html"]),
]
"""Every table and figure, in every form."""

PAGES = [
    str(file)
    for file in sorted((sources.PACKAGE / "report").glob("*.*"))
    if file.suffix in (".html", ".css", ".js")
]
"""What pages are made of, besides code."""

WORKED_FROM = {
    *noted(*expand(f"{B}/data/{{task}}/{{split}}.parquet", task=TASKS, split=configuration.SPLITS)),
    *(path for batch in BATCHES.values() for path in read_for(batch)),
}
"""What merges are made from; if it is deleted, Snakemake makes it again only if it is asked for by itself."""
