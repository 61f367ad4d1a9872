"""Snakemake asks here before it reads a configuration: ours is read by the reader of `remerge check` first.

Snakemake reads `--configfile` before any Snakefile, and takes what says `__use_yte__` for a program. It first
starts the plugin that a profile names, `logger: [remerge]`. This one logs nothing.
"""

import sys
from contextlib import redirect_stderr
from io import StringIO
from logging import LogRecord

from snakemake.cli import parse_args
from snakemake_interface_logger_plugins.base import LogHandlerBase

from remerge import config as configuration
from remerge.errors import UserError


class LogHandler(LogHandlerBase):
    """Refuses a wrong configuration, in one line and with status 2."""

    writes_to_stream = False
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Read the files that the command line names."""
        with redirect_stderr(StringIO()):  # which has been told of profiles already
            _, arguments = parse_args(sys.argv[1:])
        try:
            if arguments.configfile:
                configuration.load(*arguments.configfile)
        except UserError as error:
            print(f"remerge: {error}", file=sys.stderr)
            sys.exit(2)

    def emit(self, record: LogRecord) -> None:
        """Nothing."""
