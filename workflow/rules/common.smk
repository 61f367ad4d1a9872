import os
import re
import sys
from pathlib import Path

from remerge import config as configuration
from remerge import sources
from remerge.errors import UserError
from remerge.files import write_text

# The rules call `python`: it is the one that runs Snakemake, whether or not its environment is active.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))


def refuse(error):
    """One line and status 2, as the command line has it."""
    print(f"remerge: {error}", file=sys.stderr)
    sys.exit(2)


try:
    # No `configfile:` directive: Snakemake would mix its keys into those of the file that is asked for.
    if workflow.configfiles:
        CONFIG = configuration.validate(config, Path(workflow.configfiles[-1]))
    else:
        CONFIG = configuration.load(Path(workflow.basedir) / "config/demo.yaml")
    if workflow.is_main_process:
        configuration.check_methods(CONFIG)
except UserError as error:
    refuse(error)

B = str(CONFIG.folder)
TASKS = list(CONFIG.tasks)
MODELS = CONFIG.models
RUN = f"{B}/config.yaml"
LOG = "2> >(tee {log} >&2)"
RECORDS = {}  # what each stage writes, by the stage's name; its rule file adds it


onstart:
    write_text(Path(RUN), configuration.dump(CONFIG))


wildcard_constraints:
    task="|".join([*TASKS, "multitask"]),
    size=r"\d+",


def settings_of_task(wildcards):
    """What a task's own files follow from, beside their inputs."""
    return configuration.digest(CONFIG.task(wildcards.task), CONFIG.seed)


def settings_of_expert(wildcards):
    tasks = TASKS if wildcards.task == "multitask" else [wildcards.task]
    parts = [CONFIG.finetune, CONFIG.seed, CONFIG.threads, CONFIG.base]
    return configuration.digest(parts, [CONFIG.tasks[task] for task in tasks])


def data_of_expert(wildcards):
    tasks = TASKS if wildcards.task == "multitask" else [wildcards.task]
    return expand(f"{B}/data/{{task}}/{{split}}.parquet", task=tasks, split=["train", "validation"])
