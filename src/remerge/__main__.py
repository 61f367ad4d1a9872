"""The command line: one subcommand for each stage of the workflow, and the catalogue of methods.

Wrong input ends with one line on standard error and exit status 2.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from remerge import config as configuration
from remerge.errors import UserError

Handler = Callable[[argparse.Namespace], None]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 0, or 2 for wrong input, or 130 when interrupted."""
    # Idle OpenMP threads sleep instead of spinning, or jobs side by side starve each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    parsed = _parser().parse_args(arguments)
    try:
        handler: Handler = parsed.handler
        handler(parsed)
    except UserError as error:
        print(f"remerge: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _stage(run: str, *names: str) -> Handler:
    """A handler that calls a stage of `remerge.stages`, `campaign` or `export` with a configuration."""

    def handle(parsed: argparse.Namespace) -> None:
        # Imported here: torch and transformers take seconds, and most mistakes are seen without them.
        config = configuration.load(parsed.config)
        from transformers.utils import logging

        from remerge import campaign, export, stages
        from remerge.models import prepare_process

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        # What a checkpoint lacks is checked where it is loaded.
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        prepare_process(config.threads)
        stage = next(getattr(module, run) for module in (stages, campaign, export) if hasattr(module, run))
        stage(config, *[getattr(parsed, name) for name in names])

    return handle


def _data(parsed: argparse.Namespace) -> None:
    from remerge.tasks.data import make_data

    make_data(configuration.load(parsed.config), parsed.task)


def _table(parsed: argparse.Namespace) -> None:
    from remerge.report.tables import write_table

    write_table(parsed.name, configuration.load(parsed.config).folder)


def _figure(parsed: argparse.Namespace) -> None:
    from remerge.report.figures import write_figure

    write_figure(parsed.name, configuration.load(parsed.config).folder)


def _report(parsed: argparse.Namespace) -> None:
    from remerge.report.page import write_report

    write_report(configuration.load(parsed.config).folder)


def _merge(parsed: argparse.Namespace) -> None:
    from remerge.standalone import merge_folders

    merge_folders(
        parsed.method, parsed.base, parsed.expert, parsed.out, parsed.param, parsed.dtype, parsed.device
    )


def _check(parsed: argparse.Namespace) -> None:
    configuration.check_methods(configuration.load(parsed.config))


def _methods(parsed: argparse.Namespace) -> None:
    from remerge import methods

    print(methods.table())


def _schema(parsed: argparse.Namespace) -> None:
    print(json.dumps(configuration.Config.model_json_schema(), indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="remerge", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, handler: Handler, text: str, *positional: str) -> None:
        command = commands.add_parser(name, help=text, description=text)
        for argument in positional:
            kind = {"config": Path, "size": int}.get(argument, str)
            command.add_argument(argument, type=kind)
        command.set_defaults(handler=handler)

    add("base", _stage("make_base"), "find or pretrain the base", "config")
    add("data", _data, "write a task's splits", "config", "task")
    add("expert", _stage("make_expert", "task"), "fine-tune or find an expert", "config", "task")
    add("reference", _stage("make_reference_of", "task"), "keep an expert's answers", "config", "task")
    add("scores", _stage("score_models"), "score every model on every task", "config")
    add("divergences", _stage("measure_divergences"), "compare every expert with every other", "config")
    add(
        "select",
        _stage("run_selection", "variant"),
        "choose a learned method's settings",
        "config",
        "variant",
    )
    add(
        "campaign",
        _stage("run_campaign", "variant", "size"),
        "merge and score every subset of a size",
        "config",
        "variant",
        "size",
    )
    add(
        "statistics",
        _stage("make_statistics", "task", "kind"),
        "compute what fisher (fisher) or regmean (grams) needs of an expert",
        "config",
        "task",
        "kind",
    )
    add(
        "export",
        _stage("run_export", "variant", "subset"),
        "write one merge as a checkpoint: variant, subset as task+task",
        "config",
        "variant",
        "subset",
    )
    add("table", _table, "write one table", "config", "name")
    add("figure", _figure, "write one figure", "config", "name")
    add("report", _report, "write the report page", "config")
    add("check", _check, "check a configuration, methods and parameters included", "config")
    add("methods", _methods, "list the merge methods")
    add("schema", _schema, "print the JSON schema of the configuration")
    text = "merge checkpoints into a new folder, without a pipeline"
    merge = commands.add_parser("merge", help=text, description=text)
    merge.add_argument("--method", required=True, help="one that `remerge methods` lists")
    merge.add_argument("--base", required=True, help="a folder or hub id")
    merge.add_argument("--expert", required=True, action="append", help="the same; once for each expert")
    merge.add_argument("--out", required=True, type=Path, help="a folder that is not there yet")
    merge.add_argument("--param", default=[], action="append", metavar="NAME=VALUE", help="of the method")
    merge.add_argument("--dtype", choices=["float32", "bfloat16"], help="of the weights; default: the base's")
    merge.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    merge.set_defaults(handler=_merge)
    return parser


if __name__ == "__main__":
    sys.exit(main())
