"""The page that shows all of a run."""

from remerge.config import Config
from remerge.report.page import write_report


def run(config: Config) -> None:
    """Write `report.html` from the records."""
    write_report(config.folder)
