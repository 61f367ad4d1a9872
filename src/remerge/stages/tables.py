"""One table of the papers or of our own."""

from remerge.config import Config
from remerge.report.tables import write_table


def run(config: Config, name: str) -> None:
    """Write the table called ``name`` from the records."""
    write_table(name, config.folder)
