"""The configuration, and the names that every rule file uses."""

import math
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from remerge import config as configuration
from remerge import contents, dependence, devices, invocation, made, runs, sources, training, warm
from remerge.batches import by_rule
from remerge.errors import UserError
from remerge.files import write_text
from remerge.needs import Needs
from remerge.notes import note
from remerge.room import room

# The rules call `python`: this makes it Snakemake's own Python, even if its environment is not active.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))


def refuse(error):
    """Print one line and exit with status 2, as the command line does."""
    note(str(error))
    sys.exit(2)


try:
    # No `configfile:` directive: Snakemake would mix its keys into those of the given file.
    files = map(Path, workflow.configfiles or [Path(workflow.basedir) / "config/demo.yaml"])
    # Read again, because Snakemake's own reader accepts a duplicate key and takes the last one.
    CONFIG = configuration.load(*files, over=workflow.config_settings.config)
    # In a job, `workflow` knows this already; otherwise it learns its executor only after it has been read.
    clustered = workflow.remote_exec or invocation.clustered()
    if clustered and "shards" not in CONFIG.model_fields_set:
        CONFIG = CONFIG.model_copy(update={"shards": len(CONFIG.sizes) or 1})
    if workflow.is_main_process:
        invocation.must_have_its_profile(Path(workflow.basedir))
        configuration.check(CONFIG, here=not clustered)
        runs.must_know_what_changed(CONFIG.folder, configuration.dump(CONFIG), invocation.asked("forceall"))
        if not invocation.asked("dryrun"):
            # Held as long as this process lives, so that a later run can tell whether this one's lock is stale.
            HELD = runs.begin(CONFIG.benchmark, CONFIG.folder)
except UserError as error:
    refuse(error)

B = str(CONFIG.folder)
SCORING = dependence.scoring(CONFIG.base.family, CONFIG.finetune.linear)
TASKS = list(CONFIG.tasks)
MODELS = CONFIG.models
RUN = f"{B}/config.yaml"  # only letters, digits and _.- in the name: nothing that is special to a shell
LOG = "2> >(tee {log:q} >&2)"


def keep():
    """Write the configuration to where jobs read it."""
    try:
        write_text(Path(RUN), configuration.dump(CONFIG))
    except UserError as error:
        refuse(error)


if (
    workflow.is_main_process
    and CONFIG.folder.is_dir()
    and not Path(RUN).exists()
    and not invocation.asked("dryrun")
):
    keep()


onstart:
    keep()
    if not clustered:
        warm.start(CONFIG, len(workflow.dag))


CODE = {}
"""The files with the code that each stage's results depend on: every rule file adds its own."""

RECORDS = {}
"""The files that each stage writes, from which tables and figures are made: every rule file adds its own."""


def any_of(names):
    """A wildcard's constraint: one of these names; with no names, it matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    task=any_of([*TASKS, "multitask"]),
    # Of exports; nothing that is special to a shell.
    unknown=f"(?!({any_of([v.name for v in CONFIG.merge.variants])})/)[A-Za-z0-9][A-Za-z0-9_.,=@+-]*",
    subset="[A-Za-z0-9][A-Za-z0-9_+-]*",
