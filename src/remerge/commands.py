"""The commands that people type, each a function of its parsed arguments.

The help shows their docstrings. What takes seconds to import, such as torch, is imported where it is needed.
"""

import json
import os
from argparse import Namespace
from typing import NoReturn

from remerge import config as configuration
from remerge import devices, largest
from remerge.notes import note


def new(parsed: Namespace) -> None:
    """Inspect checkpoints and write a first configuration."""
    quiet()
    from remerge.folders.starting import write_configuration

    write_configuration(parsed.config, parsed.base, parsed.expert)
    print(f"remerge: {parsed.config}: fill in what is in CAPITALS, then: remerge check {parsed.config}")


def check(parsed: Namespace) -> int:
    """Check a configuration, including methods, parameters and local data."""
    config = configuration.load(parsed.config)
    configuration.check(config, trusted=False)
    missing = configuration.missing(config)
    for said in missing:
        note(said)
    own = [f"methods: {file}: a run executes it, this check does not" for file in config.methods]
    remarks, extents = configuration.measured(config)
    for remark in [*own, *remarks, *largest.described(config, extents)]:
        print(remark)
    if parsed.time and not missing:
        from remerge import timing

        config = config.model_copy(update={"device": devices.only(config.device)})
        prepare(config)
        for line in timing.described(config):
            print(line)
    return 2 if missing else 0


def run(parsed: Namespace) -> NoReturn:
    """Run a benchmark, write to ./results/; accepts Snakemake's options."""
    from remerge import launch

    configuration.load(parsed.config)
    launch.run(parsed.config, parsed.more)


def demo(parsed: Namespace) -> NoReturn:
    """Run a miniature benchmark: minutes on two cores, no network; accepts Snakemake's options."""
    from remerge import launch

    launch.run(launch.miniature(parsed.name), parsed.more)


def merge(parsed: Namespace) -> None:
    """Merge checkpoints into a new folder, without the pipeline."""
    from remerge.folders.standalone import merge_folders

    quiet()
    merge_folders(
        parsed.method,
        parsed.base,
        parsed.expert,
        parsed.out,
        parsed.param,
        parsed.dtype,
        parsed.device,
        parsed.adapter,
        parsed.rank,
    )


def mergekit(parsed: Namespace) -> None:
    """Carry out a mergekit configuration, if a remerge method makes the same merge."""
    from remerge.folders.standalone import merge_recipe

    quiet()
    merge_recipe(parsed.file, parsed.out, parsed.device, parsed.seed)


def methods(parsed: Namespace) -> None:
    """List merge methods with their parameters and sources."""
    from remerge import catalogue, methods

    shown = [methods.find(name) for name in parsed.method] or [*methods.methods().values()]
    print(getattr(catalogue, parsed.form)(shown))


def compare(parsed: Namespace) -> None:
    """Write a page that compares the results of several benchmarks."""
    from remerge.report.compare import compare

    compare(parsed.results, parsed.out)


def verify(parsed: Namespace) -> int:
    """Check every file of a run: contents, code, settings, versions, inputs."""
    os.environ["TQDM_DISABLE"] = "1"
    from remerge.report.run import in_place

    with in_place(parsed.results) as run:
        from remerge.stages._replay import verify

        prepare(run.config)
        found = verify(run)
    for kind, lines in (("corrupt", found.corrupt), ("stale", found.stale)):
        for line in lines:
            print(f"{kind}: {line}")
    print(f"remerge: {run.results}: {found.summary}")
    return 2 if found.corrupt or found.stale else 0


def push(parsed: Namespace) -> None:
    """Upload a merge to the Hugging Face hub, with its card and the token of `hf auth login`."""
    from remerge.folders.push import push

    print(push(parsed.folder, parsed.repository, parsed.private))


def exhibits(parsed: Namespace) -> None:
    """List the tables and figures, and which configurations produce them."""
    from remerge.exhibits._listing import listing

    print(listing([configuration.load(path) for path in parsed.config]))


def schema(parsed: Namespace) -> None:
    """Print the JSON schema of the configuration."""
    print(json.dumps(configuration.schema(), indent=1))


def prepare(config: configuration.Config) -> None:
    """Make the process ready for the models of a benchmark."""
    from remerge.checkpoints.models import prepare_process

    quiet()
    prepare_process(config.threads, tf32=config.base.dtype == "tf32")


def quiet() -> None:
    """Silence transformers: missing tensors of a checkpoint are found where it is read."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
