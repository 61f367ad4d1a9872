"""One figure of the papers or of our own."""

from remerge.config import Config
from remerge.report.figures import write_figure


def run(config: Config, name: str) -> None:
    """Write the figure called ``name`` from the records."""
    write_figure(name, config.folder)
