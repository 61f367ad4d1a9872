"""Reproducible experiments on model merging.

`snakemake --configfile CONFIG --cores all` runs a benchmark; these commands do the rest.
Wrong input ends with one line on standard error and exit status 2.
"""

import argparse
import ast
import importlib
import json
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from remerge import config as configuration
from remerge import devices, needs
from remerge.errors import UserError
from remerge.files import check_writable
from remerge.runs import end_with_the_run
from remerge.stages._cost import recorded
from remerge.versions import version_of

Handler = Callable[[argparse.Namespace], int | None]

STAGES = Path(__file__).parent / "stages"
TYPES: dict[str, type] = {"str": str, "int": int, "Path": Path}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 0, or 2 for wrong input, or 130 when interrupted."""
    # Idle OpenMP threads must sleep instead of spinning, or parallel jobs starve each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    parser = _commands().parser
    parsed, more = parser.parse_known_args(_with_the_name(sys.argv[1:] if arguments is None else arguments))
    if more and parsed.handler not in (_run, _demo):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    parsed.more = more
    try:
        handler: Handler = parsed.handler
        return handler(parsed) or 0
    except UserError as error:
        _close_bars()
        print(f"remerge: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # A folder that cannot be written, or a file that cannot be read; without a name it is our own
        # mistake.
        if error.filename is None:
            raise
        _close_bars()
        print(f"remerge: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _with_the_name(arguments: list[str]) -> list[str]:
    """The arguments with a miniature's name after `demo`: a later word may be the value of an option."""
    named = arguments[:1] != ["demo"] or (len(arguments) > 1 and not arguments[1].startswith("-"))
    return arguments if named else ["demo", "demo", *arguments[1:]]


def _close_bars() -> None:
    """End the lines of progress bars that an error cut off, so that its message begins on a new line."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        for bar in list(getattr(tqdm, "_instances", [])):
            bar.close()


def _stage(name: str, arguments: list[str]) -> Handler:
    """A handler that runs a stage on a configuration."""

    def handle(parsed: argparse.Namespace) -> None:
        # Before the imports, which may take seconds: most mistakes are found here.
        config = configuration.load(parsed.config)
        values = [getattr(parsed, argument) for argument in arguments]
        if end_with_the_run() and config.device in ("auto", "cuda"):
            devices.take(needs.of_job(config, name, values, gpu=True).device)
        check_writable(config.folder)
        stage = importlib.import_module(f"remerge.stages.{name}")
        # Not whether torch is: `remerge.forks` has imported it for all stages.
        if "remerge.checkpoints.models" in sys.modules:
            _prepare(config)
        with recorded(config, name, values):
            stage.run(config, *values)

    return handle


def _prepare(config: configuration.Config) -> None:
    from remerge.checkpoints.models import prepare_process

    _quiet()
    prepare_process(config.threads, tf32=config.base.dtype == "tf32")


def _quiet() -> None:
    """Silence transformers: missing tensors of a checkpoint are found where it is read."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def _merge(parsed: argparse.Namespace) -> None:
    from remerge.folders.standalone import merge_folders

    _quiet()
    merge_folders(
        parsed.method, parsed.base, parsed.expert, parsed.out, parsed.param, parsed.dtype, parsed.device
    )


def _mergekit(parsed: argparse.Namespace) -> None:
    from remerge.folders.standalone import merge_recipe

    _quiet()
    merge_recipe(parsed.file, parsed.out, parsed.device)


def _push(parsed: argparse.Namespace) -> None:
    from remerge.folders.push import push

    print(push(parsed.folder, parsed.repository, parsed.private))


def _compare(parsed: argparse.Namespace) -> None:
    from remerge.report.compare import compare

    compare(parsed.results, parsed.out)


def _check(parsed: argparse.Namespace) -> None:
    config = configuration.load(parsed.config)
    configuration.check(config)
    configuration.check_sources(config)
    for remark in [*configuration.remarks(config), *needs.described(config)]:
        print(remark)
    if parsed.time:
        from remerge import timing

        _prepare(config)
        for line in timing.described(config):
            print(line)


def _run(parsed: argparse.Namespace) -> int:
    from remerge import launch

    configuration.load(parsed.config)
    return launch.run(parsed.config, parsed.more)


def _demo(parsed: argparse.Namespace) -> int:
    from remerge import launch

    return launch.run(launch.miniature(parsed.name), parsed.more)


def _verify(parsed: argparse.Namespace) -> int:
    # The paths of models that a run recorded are relative to the folder above results/.
    folder = parsed.results.resolve()
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"{parsed.results}: not the folder of a run (no config.yaml): name results/<benchmark>"
        )
    os.chdir(folder.parent.parent)
    os.environ["TQDM_DISABLE"] = "1"
    from remerge.report.run import Run
    from remerge.stages._replay import verify

    run = Run(Path(folder.parent.name, folder.name))
    if run.results != run.config.folder:
        raise UserError(f"{parsed.results} is not results/{run.benchmark}: name the folder of a run")
    _prepare(run.config)
    found = verify(run)
    for kind, lines in (("corrupt", found.corrupt), ("stale", found.stale)):
        for line in lines:
            print(f"{kind}: {line}")
    print(f"remerge: {run.results}: {found.summary}")
    return 2 if found.corrupt or found.stale else 0


def _methods(parsed: argparse.Namespace) -> None:
    from remerge import catalogue, methods

    shown = [methods.find(name) for name in parsed.method] or [*methods.methods().values()]
    print(getattr(catalogue, parsed.form)(shown))


def _new(parsed: argparse.Namespace) -> None:
    _quiet()
    from remerge.folders.starting import write_configuration

    write_configuration(parsed.config, parsed.base, parsed.expert)
    print(f"remerge: {parsed.config}: fill in what is in CAPITALS, then: remerge check {parsed.config}")


def _exhibits(parsed: argparse.Namespace) -> None:
    from remerge.exhibits._listing import listing

    print(listing([configuration.load(path) for path in parsed.config]))


def _schema(parsed: argparse.Namespace) -> None:
    print(json.dumps(configuration.Config.model_json_schema(), indent=1))


def _completion(parsed: argparse.Namespace) -> None:
    import shtab

    commands = _commands()
    commands.commands.help = None  # otherwise the commands are hidden from shtab, too
    for command in commands.commands.choices.values():
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(commands.parser, parsed.shell))


def _signature(file: Path) -> tuple[str, dict[str, type]]:
    """A stage's description in a sentence, and the arguments of its ``run`` after the configuration.

    They are read from the file: importing a stage, and torch with it, takes seconds.
    """
    found = next(
        node
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "run"
    )
    arguments = {a.arg: TYPES[ast.unparse(a.annotation)] for a in found.args.args[1:] if a.annotation}
    return (ast.get_docstring(found) or "").split("\n")[0], arguments


class _Commands:
    """The subcommands, which `--help` lists in groups."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser
        self.commands = parser.add_subparsers(
            required=True, metavar="command", help=argparse.SUPPRESS, prog=parser.prog
        )

    def group(self, title: str) -> None:
        """Begin a group of commands."""
        self.parser.epilog = f"{self.parser.epilog or ''}\n{title}:\n"

    def add(self, name: str, handler: Handler, text: str, /, **positional: type) -> argparse.ArgumentParser:
        """A command that takes these arguments, to which options may be added."""
        command = self.commands.add_parser(name, description=text, help=text)
        for argument, kind in positional.items():
            command.add_argument(argument, type=kind)
        command.set_defaults(handler=handler)
        indent = " " * 16
        self.parser.epilog = (
            f"{self.parser.epilog}"
            + textwrap.fill(text, 80, initial_indent=f"  {name:<14}", subsequent_indent=indent)
            + "\n"
        )
        return command


def _commands() -> _Commands:
    parser = argparse.ArgumentParser(
        prog="remerge",
        usage="remerge [-h] [--version] command …",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"remerge {version_of('remerge')}")
    commands = _Commands(parser)
    _add_yours(commands)
    commands.group("the stages of a benchmark, as run by Snakemake")
    for file in sorted(STAGES.glob("[!_]*.py")):
        text, arguments = _signature(file)
        commands.add(file.stem, _stage(file.stem, list(arguments)), text, config=Path, **arguments)
    commands.group("for reference")
    shown = commands.add(
        "exhibits", _exhibits, "list the tables and figures, and which configurations produce them"
    )
    shown.add_argument("config", type=Path, nargs="+", help="configurations")
    commands.add("schema", _schema, "print the JSON schema of the configuration")
    shells = commands.add("completion", _completion, "print a script for shell completion")
    shells.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="source <(remerge completion bash)")
    return commands


def _add_yours(commands: _Commands) -> None:
    """The commands that people type."""
    commands.group("your checkpoints and benchmarks")
    new = commands.add("new", _new, "inspect checkpoints and write a first configuration", config=Path)
    new.add_argument(
        "--base", required=True, help="the model that the experts were trained from: a folder or hub id"
    )
    new.add_argument(
        "--expert", required=True, action="append", metavar="[NAME=]FOLDER", help="repeat for each checkpoint"
    )
    check = commands.add(
        "check", _check, "check a configuration, including methods, parameters and local data", config=Path
    )
    check.add_argument(
        "--time", action="store_true", help="also measure what each kind of job would take on this machine"
    )
    commands.add(
        "run", _run, "run a benchmark, write to ./results/; accepts Snakemake's options", config=Path
    )
    text = "run a miniature benchmark: minutes on two cores, no network; accepts Snakemake's options"
    demo = commands.add("demo", _demo, text)
    demo.add_argument("name", nargs="?", help="another miniature, such as t5 or lora; before any option")
    merge = commands.add("merge", _merge, "merge checkpoints into a new folder, without the pipeline")
    text = "carry out a mergekit configuration, if a remerge method makes the same merge"
    recipe = commands.add("mergekit", _mergekit, text, file=Path)
    for command in (merge, recipe):
        command.add_argument("--out", required=True, type=Path, help="a folder that does not exist yet")
        command.add_argument(
            "--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute"
        )
    merge.add_argument("--method", required=True, help="a name listed by `remerge methods`")
    merge.add_argument("--base", required=True, help="a folder or hub id")
    merge.add_argument(
        "--expert", required=True, action="append", help="a folder or hub id; repeat for each expert"
    )
    merge.add_argument(
        "--param", default=[], action="append", metavar="NAME=VALUE", help="a parameter of the method"
    )
    merge.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="type of the weights; default: the base's"
    )
    listed = commands.add("methods", _methods, "list merge methods with their parameters and sources")
    listed.add_argument("method", nargs="*", help="only these methods; default: all")
    form = listed.add_mutually_exclusive_group()
    for name, value in (("json", "as_json"), ("markdown", "markdown")):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=value, default="listing")
    compare = commands.add(
        "compare", _compare, "write a page that compares the results of several benchmarks"
    )
    compare.add_argument("results", type=Path, nargs="+", help="results/<benchmark>, for each benchmark")
    compare.add_argument("--out", required=True, type=Path, help="the page, an HTML file")
    text = "check every file of a run: contents, code, settings, versions, inputs"
    commands.add("verify", _verify, text, results=Path)
    text = "upload a merge to the Hugging Face hub, with its card and the token of `hf auth login`"
    pushed = commands.add("push", _push, text, folder=Path, repository=str)
    pushed.add_argument("--private", action="store_true", help="create a private repository")


if __name__ == "__main__":
    sys.exit(main())
