"""One table of the papers or of our own."""

from remerge.config import Config
from remerge.report.make import write


def run(config: Config, name: str) -> None:
    """Write one table from the records."""
    write(config.folder, name, "table")
