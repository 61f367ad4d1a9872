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
        configuration.check(CONFIG)
except UserError as error:
    refuse(error)

B = str(CONFIG.folder)
TASKS = list(CONFIG.tasks)
MODELS = CONFIG.models
RUN = f"{B}/config.yaml"
LOG = "2> >(tee {log} >&2)"


onstart:
    write_text(Path(RUN), configuration.dump(CONFIG))


RECORDS = {}
"""What each stage writes, of which tables and figures are made: every rule file adds its own."""


def any_of(names):
    """A wildcard's constraint: one of these names, and nothing if there is none."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    task=any_of([*TASKS, "multitask"]),


def tasks_of(cases):
    """The tasks that merges are made from or judged on."""
    return sorted({task for case in cases for task in [*case.tasks, *case.judged]})


def experts_of(tasks):
    """What every merge of these tasks reads."""
    return [
        f"{B}/base.json",
        *expand(f"{B}/experts/{{task}}.json", task=tasks),
        *expand(f"{B}/data/{{task}}/test.parquet", task=tasks),
        *expand(f"{B}/scores/{{task}}.json", task=tasks),
    ]


def needed_by(variant, tasks):
    """What a variant's method needs of experts beyond their weights."""
    known = sources.known()[variant.method]
    if known.learned:
        return expand(f"{B}/references/{{task}}.safetensors", task=tasks)
    kind = known.statistics
    return expand(f"{B}/statistics/{{task}}/{kind}.safetensors", task=tasks) if kind else []


def code_of(method):
    """The files that a method's merges follow from."""
    if method in CONFIG.external:
        return []
    over = {str(CONFIG.params(v).get("over", "")) for v in CONFIG.merge.variants if v.method == method}
    files = {file for given in over for file in sources.sources_of(method, {"over": given})}
    return sorted(map(str, files))


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
