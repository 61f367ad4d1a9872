"""Snakemake's logger: it refuses a wrong configuration first, and shows a run in a few lines.

Snakemake reads `--configfile` before any Snakefile, and takes what says `__use_yte__` for a program. It first
starts the plugin that a profile names, `logger: [remerge]`: here the configuration is read by the reader of
`remerge check`. Of what Snakemake says afterwards the screen has errors and warnings whole, and of the rest
what people ask of a run; `--verbose` brings all of it, and so does its own log under `.snakemake/log`.
"""

import logging
import os
import sys
from collections.abc import Sequence
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake.cli import parse_config
from snakemake.common import get_appdirs
from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from remerge import config as configuration
from remerge.errors import UserError
from remerge.files import check_writable
from remerge.invocation import arguments
from remerge.notes import note
from remerge.runs import STATE
from remerge.screen import Screen

ROOM = 1 << 18
"""More bytes than Snakemake's own locks and logs take, without room for which it ends in a traceback."""

NOISE = (
    "Assuming unrestricted shared",
    "Building DAG",
    "Using shell",
    "Provided ",
    "Rules claiming more",
    "Group jobs: inactive",
    "Conda environments: ignored",
    "Singularity containers: ignored",
    "Activating ",
    "Select jobs to execute",
    "Execute ",
    "Elapsed time",
)
"""How the messages begin that tell people nothing."""

WHOLE_LOG = "Complete log"
"""How the message begins that tells them something after a failure alone."""

SHOWN_OTHERWISE = {event for event in LogEvent} - {LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR, LogEvent.ERROR}
"""The events whose own texts are left out."""


class LogHandler(LogHandlerBase):
    """Refuses a wrong configuration, in one line and with status 2; shows the run of a right one."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Read the files that the command line names."""
        given = arguments()
        try:
            ours = Path(given.snakefile or "Snakefile").parent / "config/demo.yaml"
            files = given.configfile or [ours]
            _check_are_no_targets(files[1:])
            config = configuration.load(*files, over=_overrides(given.config))
            check_writable(Path(given.directory or ".", STATE), ROOM)
            _check_cache()
            _check_may_start(given.cores, given.jobs)
        except UserError as error:
            note(str(error))
            sys.exit(2)
        told = self.common_settings
        stream = sys.stdout if told.stdout else sys.stderr
        self.whole = ColorizingTextHandler(
            told.nocolor,
            stream,
            DefaultFormatter(told.quiet, told.show_failed_logs),
            DefaultFilter(told.quiet, told.debug_dag, told.verbose, told.dryrun, told.printshellcmds),
        )
        self.screen = Screen(config, stream)
        self.talks = told.verbose or told.dryrun or told.printshellcmds or told.debug_dag or bool(told.quiet)
        self.failed = False
        if not self.talks:
            # Jobs side by side would write their bars over one another.
            os.environ.setdefault("TQDM_DISABLE", "1")
            # What libraries will change one day is for those who change ours.
            os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning,ignore::DeprecationWarning")

    def emit(self, record: LogRecord) -> None:
        """Show an event, or say a message as Snakemake does."""
        event = getattr(record, "event", None)
        if not self.talks:
            if event == LogEvent.RUN_INFO:
                self.screen.start(record.stats)  # type: ignore[attr-defined]
            elif event == LogEvent.JOB_INFO:
                self.screen.begin(record.jobid, record.rule_name)  # type: ignore[attr-defined]
            elif event == LogEvent.JOB_FINISHED:
                self.screen.end(record.job_id)  # type: ignore[attr-defined]
            elif event == LogEvent.JOB_ERROR:
                self.screen.fail(record.jobid)  # type: ignore[attr-defined]
            noise = NOISE if self.failed else (*NOISE, WHOLE_LOG)
            if record.levelno >= logging.WARNING:
                self.failed |= record.levelno >= logging.ERROR
                self.screen.say("")
            elif event in SHOWN_OTHERWISE or str(record.msg).startswith(noise) or not record.msg:
                return
        self.whole.handle(record)


def _check_cache() -> None:
    """Refuse a cache that cannot be written, which ends Snakemake in a traceback; it is below HOME."""
    try:
        check_writable(Path(get_appdirs().user_cache_dir))
    except UserError as error:
        raise UserError(f"{error}: set XDG_CACHE_HOME to a folder of yours") from None


def _check_may_start(*counts: object) -> None:
    """Refuse to wait for ever: with no core, or no job at a time, none could begin."""
    if any(isinstance(count, int) and count < 1 for count in counts):
        raise UserError("--cores, --jobs: no job could begin: give 1 or more, or --cores all")


def _overrides(entries: Sequence[str] | None) -> dict[str, Any]:
    """The keys that `--config` replaces."""
    try:
        found: dict[str, Any] = parse_config(entries)
    except ValueError as error:
        raise UserError(f"--config: {error}") from None
    return found


def _check_are_no_targets(files: list[Path]) -> None:
    """Refuse targets among the files: `--configfile` takes every word after it, unless that is an option."""
    for file in files:
        if file.parts[0] == "results" or not file.exists():
            raise UserError(f"--configfile: {file} is not a configuration: write -- before a target")
