"""Reproducible experiments on model merging.

`snakemake --configfile CONFIG --cores all` runs a benchmark; these commands do the rest.
Wrong input ends with one line on standard error and exit status 2.
"""

import argparse
import ast
import importlib
import os
import signal
import sys
import textwrap
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

from remerge import commands, devices
from remerge import config as configuration
from remerge.errors import UserError
from remerge.files import check_writable
from remerge.needs import Needs
from remerge.notes import note
from remerge.runs import end_with_the_run
from remerge.stages._cost import recorded
from remerge.stages._memory import lacking
from remerge.versions import version_of

Handler = Callable[[argparse.Namespace], int | None]

STAGES = Path(__file__).parent / "stages"
TYPES: dict[str, type] = {"str": str, "int": int, "Path": Path}

ARGUMENTS = {
    "config": "the configuration, a YAML file",
    "results": "results/<benchmark>",
    "file": "a mergekit configuration",
    "folder": "as remerge merge or an export wrote it",
    "repository": "owner/name",
    "task": "one of the configuration's tasks",
    "kind": "fisher or grams",
    "variant": "as its folder is named, such as ties@density=0.1",
    "plan": "subsets, negation or another",
    "group": "a size of subsets, or another plan",
    "subset": "tasks in alphabetical order, such as cola+mnli",
    "batch": "a method, or a variant of one that learns",
    "share": "its number, from 1",
    "name": "as its file is named, such as divmerge_table3 or divmerge_figure2",
}
"""What the help says of the arguments that commands share."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 0, or 2 for wrong input, 130 if interrupted, 141 if not read."""
    # Idle OpenMP threads must sleep instead of spinning, or parallel jobs starve each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if arguments is None and isinstance(sys.stdout, TextIOWrapper):
        # As on standard error: a letter that the terminal does not have stops nothing. Only in a process of
        # its own: a child that does a job writes to an output of another kind than Python has opened.
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _commands().parser
    parsed, more = parser.parse_known_args(_with_the_name(sys.argv[1:] if arguments is None else arguments))
    if more and parsed.handler not in (commands.run, commands.demo):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    parsed.more = more
    try:
        handler: Handler = parsed.handler
        status = handler(parsed) or 0
        sys.stdout.flush()
        return status
    except UserError as error:
        return _refused(str(error))
    except BrokenPipeError:
        # The reader has enough of the output, as `head` does: nothing of the rest is flushed at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        # A folder that cannot be written, or a file that cannot be read; without a name it is our own
        # mistake.
        if error.filename is None:
            raise
        return _refused(f"{error.filename}: {error.strerror}")
    except (MemoryError, RuntimeError) as error:
        if not (cause := lacking(error)):
            raise
        return _refused(
            f"{cause}: take a larger GPU or machine; for a benchmark, remerge check names one that suffices, "
            "or lower evaluation.batch_size, for experts finetune.device_batch_size, for learned "
            "coefficients learning.batch_size"
        )
    except KeyboardInterrupt:
        return 130


def _refused(said: str) -> int:
    """Say in one line why a command cannot do its work; the exit status."""
    _close_bars()
    note(said)
    return 2


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
        config = config.model_copy(update={"device": devices.only(config.device)})
        values = [getattr(parsed, argument) for argument in arguments]
        if end_with_the_run() and config.device in ("auto", "cuda"):
            devices.take(Needs(config, gpu=True).job(name, values).device)
        check_writable(config.folder)
        stage = importlib.import_module(f"remerge.stages.{name}")
        # Not whether torch is: `remerge.forks` has imported it for all stages.
        if "remerge.checkpoints.models" in sys.modules:
            commands.prepare(config)
        with recorded(config, name, values):
            stage.run(config, *values)

    return handle


def _completion(parsed: argparse.Namespace) -> None:
    import shtab

    known = _commands()
    known.commands.help = None  # otherwise the commands are hidden from shtab, too
    for command in known.commands.choices.values():
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(known.parser, parsed.shell))


def _signature(file: Path) -> tuple[str, dict[str, type]]:
    """A stage's description in a sentence, and the arguments of its ``run`` after the configuration.

    They are read from the file: importing a stage, and torch with it, takes seconds.
    """
    found = next(
        node
        for node in ast.parse(file.read_bytes()).body
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
            command.add_argument(argument, type=kind, help=ARGUMENTS.get(argument))
        command.set_defaults(handler=handler)
        indent = " " * 16
        self.parser.epilog = (
            f"{self.parser.epilog}"
            + textwrap.fill(text, 80, initial_indent=f"  {name:<14}", subsequent_indent=indent)
            + "\n"
        )
        return command

    def function(self, handler: Handler, /, **positional: type) -> argparse.ArgumentParser:
        """A command as `add` makes it, with the name and the docstring of its function."""
        text = (handler.__doc__ or "").split("\n")[0].rstrip(".")
        return self.add(handler.__name__, handler, text[:1].lower() + text[1:], **positional)


def _commands() -> _Commands:
    parser = argparse.ArgumentParser(
        prog="remerge",
        usage="remerge [-h] [--version] command …",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"remerge {version_of('remerge')}")
    known = _Commands(parser)
    _add_yours(known)
    known.group("the stages of a benchmark, as run by Snakemake")
    for file in sorted(STAGES.glob("[!_]*.py")):
        text, arguments = _signature(file)
        known.add(file.stem, _stage(file.stem, list(arguments)), text, config=Path, **arguments)
    known.group("for reference")
    shown = known.function(commands.exhibits)
    shown.add_argument("config", type=Path, nargs="+", help="configurations")
    known.function(commands.schema)
    shells = known.add("completion", _completion, "print a script for shell completion")
    shells.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="source <(remerge completion bash)")
    return known


def _add_yours(known: _Commands) -> None:
    """The commands that people type."""
    known.group("your checkpoints and benchmarks")
    new = known.function(commands.new, config=Path)
    new.add_argument(
        "--base", required=True, help="the model that the experts were trained from: a folder or hub id"
    )
    new.add_argument(
        "--expert",
        required=True,
        action="append",
        metavar="[NAME=]FOLDER",
        help="a folder or hub id; NAME is its task's, by default the folder's; repeat for each checkpoint",
    )
    check = known.function(commands.check, config=Path)
    check.add_argument(
        "--time", action="store_true", help="also measure what each kind of job would take on this machine"
    )
    known.function(commands.run, config=Path)
    demo = known.function(commands.demo)
    demo.add_argument("name", nargs="?", help="another miniature, such as t5 or lora; before any option")
    _add_merges(known)
    listed = known.function(commands.methods)
    listed.add_argument("method", nargs="*", help="only these methods; default: all")
    form = listed.add_mutually_exclusive_group()
    for name, value, text in (("json", "as_json", "as JSON"), ("markdown", "markdown", "as a table")):
        form.add_argument(
            f"--{name}", dest="form", action="store_const", const=value, default="listing", help=text
        )
    compare = known.function(commands.compare)
    compare.add_argument("results", type=Path, nargs="+", help="results/<benchmark>, for each benchmark")
    compare.add_argument("--out", required=True, type=Path, help="the page, an HTML file")
    known.function(commands.verify, results=Path)
    pushed = known.function(commands.push, folder=Path, repository=str)
    pushed.add_argument("--private", action="store_true", help="create a private repository")


def _add_merges(known: _Commands) -> None:
    """The commands that merge folders, without the pipeline."""
    merge = known.function(commands.merge)
    recipe = known.function(commands.mergekit, file=Path)
    for command in (merge, recipe):
        command.add_argument("--out", required=True, type=Path, help="a folder that does not exist yet")
        command.add_argument(
            "--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute"
        )
    recipe.add_argument("--seed", type=int, help="the seed of random masks, as of dare_ties; default: 0")
    merge.add_argument("--method", required=True, help="a name listed by `remerge methods`")
    merge.add_argument("--base", required=True, help="a folder or hub id")
    merge.add_argument(
        "--expert",
        required=True,
        action="append",
        metavar="[NAME=]FOLDER",
        help="a folder or hub id; NAME, by default the folder's, stands for it in --param; repeat for each",
    )
    merge.add_argument(
        "--param",
        default=[],
        action="append",
        metavar="NAME=VALUE",
        help="a parameter of the method, such as density=0.2 or scale=[0.3,0.5]; repeat for each",
    )
    merge.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="type of the weights; default: the base's"
    )
    as_adapter = merge.add_mutually_exclusive_group()
    as_adapter.add_argument(
        "--adapter", action="store_true", help="of adapters: write one adapter of the base, not a whole model"
    )
    as_adapter.add_argument(
        "--rank", type=int, help="of any experts: write the adapter of this rank that is nearest to the merge"
    )


if __name__ == "__main__":
    sys.exit(main())
