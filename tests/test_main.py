"""The command line: one line and status 2 for wrong input, at every stage."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
import yaml
from tqdm import tqdm

from remerge import launch, machine, miniature, timing
from remerge.__main__ import _commands, main
from remerge.errors import UserError


@pytest.fixture
def world(tmp_path, monkeypatch, folder):
    """A benchmark on local rows and the minuscule decoder, up to its data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    raw = {"benchmark": "w", "base": {"source": "./model"}, "tasks": {}, "merge": {"variants": ["ties"]}}
    for task in ("cola", "sst2"):
        rows = tmp_path / task
        rows.mkdir()
        for split in ("train", "validation", "test"):
            lines = [json.dumps(row) for row in miniature.examples(task, split, 8, 0)]
            (rows / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
        form = miniature.FORMATS[task]
        raw["tasks"][task] = {
            "source": f"./{task}",
            "prompt": form.prompt,
            "answers": list(form.answers),
            "expert": "./model",
        }
    path = tmp_path / "w.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.fixture
def quick(monkeypatch):
    """Nothing is timed for longer than once or twice."""
    monkeypatch.setattr(machine, "LEAST", 1e-9)
    monkeypatch.setattr(timing, "start", lambda module, config: 2.0)
    monkeypatch.setenv("TQDM_DISABLE", "1")


def run(capsys, *arguments):
    status = main([str(a) for a in arguments])
    return status, capsys.readouterr().err.strip().splitlines()[-1:]


def test_existing_experts_go_through_every_stage(world, capsys):
    for line in (["base"], ["data", "cola"], ["data", "sst2"], ["experts", "cola"], ["experts", "sst2"]):
        assert main([line[0], str(world), *line[1:]]) == 0
    assert main(["references", str(world), "cola"]) == 0
    record = json.loads((world.parent / "results/w/experts/cola.json").read_text())
    assert record["path"] == "model"  # from the working directory
    assert "training" not in record


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (["references", "cola"], "data/cola/validation.parquet"),
        (["merges", "ties", "2"], "is missing"),
        (["merges", "tise", "2"], "unknown variant 'tise', did you mean ties?"),
        (["data", "colla"], "unknown task 'colla', did you mean cola?"),
    ],
)
def test_a_stage_too_early_or_misspelled(world, capsys, stage, words):
    status, lines = run(capsys, stage[0], world, *stage[1:])
    assert status == 2
    assert words in lines[0]


def test_an_error_begins_its_own_line_under_a_bar_that_it_cuts_off(world, monkeypatch, capsys):
    def stage(config):
        for _ in tqdm(range(3), desc="scores"):
            raise UserError("it is broken")

    monkeypatch.setattr(importlib.import_module("remerge.stages.scores"), "run", stage)
    assert main(["scores", str(world)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "remerge: it is broken"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.77 GiB."
            ),
            "CUDA out of memory. Tried to allocate 20.00 MiB",
        ),
        (
            RuntimeError(
                "[enforce] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
            ),
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        ),
        (
            # Where another process has taken what is left before this one has begun.
            RuntimeError(
                "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com\n"
                "CUDA kernel errors might be asynchronously reported at some other API call."
            ),
            "CUDA error: out of memory",
        ),
        (
            RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate()`"),
            "CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate()`",
        ),
        (MemoryError(), "out of memory"),
    ],
)
def test_memory_that_does_not_suffice_is_one_line(world, monkeypatch, capsys, error, said):
    def stage(config):
        raise error

    monkeypatch.setattr(importlib.import_module("remerge.stages.scores"), "run", stage)
    status, lines = run(capsys, "scores", world)
    assert status == 2 and lines[0].startswith(f"remerge: {said}: take a larger GPU or machine"), lines
    assert "lower evaluation.batch_size, for experts finetune.device_batch_size, for learned" in lines[0]
    assert lines[0].endswith("learning.batch_size")
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1"):
        main(["scores", str(world)])


def test_nothing_is_written_when_a_stage_fails(world, capsys):
    raw = yaml.safe_load(world.read_text())
    raw["tasks"]["cola"]["prompt"] = "{text} :"
    world.write_text(yaml.safe_dump(raw))
    status, lines = run(capsys, "data", world, "cola")
    assert status == 2
    assert "no column 'text'" in lines[0]
    assert not (world.parent / "results").exists()


def test_a_data_file_cut_short(world, capsys):
    assert main(["base", str(world)]) == 0
    assert main(["data", str(world), "cola"]) == 0
    assert main(["experts", str(world), "cola"]) == 0
    file = world.parent / "results/w/data/cola/validation.parquet"
    file.write_bytes(file.read_bytes()[:50])
    status, lines = run(capsys, "references", world, "cola")
    assert status == 2
    assert "validation.parquet was altered or replaced after it was made: delete it" in lines[0]
    assert not (world.parent / "results/w/references").exists()


def test_the_catalogue_and_the_check(world, capsys):
    assert main(["methods"]) == 0
    assert "\nties  TIES\n" in capsys.readouterr().out
    assert main(["check", str(world)]) == 0
    assert "one GPU of 16 GB suffices" in capsys.readouterr().out
    status, lines = run(capsys, "check", "nothing.yaml")
    assert status == 2
    assert lines == ["remerge: nothing.yaml: No such file or directory"]


def test_help_lists_every_command_in_its_group(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    yours, stages, reference = text.split("\n\n")[-3:]
    assert all(f"\n  {name} " in yours for name in ("new", "check", "merge", "mergekit", "methods", "push"))
    assert all(f"\n  {name} " in stages for name in ("base", "data", "experts", "merges", "report"))
    assert all(f"\n  {name} " in reference for name in ("exhibits", "schema", "completion"))
    assert max(map(len, "\n".join([yours, stages, reference]).splitlines())) <= 80


def test_help_says_what_every_argument_is():
    for name, command in _commands().commands.choices.items():
        for argument in command._actions:
            assert argument.help, (name, argument.dest)


def test_a_reader_that_has_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "remerge", "schema"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_commands_usage_names_the_program(capsys):
    with pytest.raises(SystemExit):
        main(["merge"])
    said = capsys.readouterr().err
    assert said.startswith("usage: remerge merge [-h] ") and "\nremerge merge: error: " in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["statistics", "w.yaml", "cola", "fishr"],
            "unknown kind of statistics 'fishr', did you mean fisher?",
        ),
        (
            ["share", "w.yaml", "ties", "1"],
            "batch ties has no shares, since shards is 1: run remerge batch",
        ),
        (["verify", "cola"], "cola: not the folder of a run (no config.yaml): name results/<benchmark>"),
        (["verify", "gone"], "gone: not the folder of a run (no config.yaml): name results/<benchmark>"),
    ],
)
def test_words_that_name_nothing(world, capsys, words, said):
    assert run(capsys, *words) == (2, [f"remerge: {said}"])


def test_a_shell_completes_commands_options_and_files(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "mine.yaml").touch()
    ask = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_remerge; echo "${COMPREPLY[@]}"'
    for words, expected in [
        (["me"], {"merge", "mergekit", "merges", "methods"}),
        (["merge", "--d"], {"--dtype", "--device"}),
        (["merge", "--device", ""], {"auto", "cpu", "cuda"}),
        (["check", "mi"], {"mine.yaml"}),
    ]:
        line = ["bash", "-c", ask, script, "remerge", *words]
        done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert expected <= set(done.stdout.split()), (words, done.stdout)
    for shell in ("zsh", "tcsh"):
        assert main(["completion", shell]) == 0
        assert "methods" in capsys.readouterr().out


def test_a_locale_without_our_letters():
    """Files are UTF-8 whatever the locale; what a terminal cannot show is shown by its number."""
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
    done = subprocess.run([sys.executable, "-m", "remerge", "--help"], env=plain, capture_output=True)
    assert done.returncode == 0 and rb"command \u2026" in done.stdout, done.stderr


def test_names_of_files_that_python_would_spell_in_another_way(world):
    """Tokenizers and other libraries take them for UTF-8, and ended in tracebacks."""
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    other = world.rename(world.with_stem("größe"))
    for env, said in (
        (plain, b": Python takes names of files for ascii: set PYTHONUTF8=1\n"),
        (os.environ, b""),
    ):
        done = subprocess.run([sys.executable, "-m", "remerge", "check", other], env=env, capture_output=True)
        assert done.returncode == (2 if said else 0)
        assert done.stderr.endswith(said) and done.stderr.count(b"\n") <= 1, done.stderr


def test_data_that_are_not_there(world, capsys):
    raw = yaml.safe_load(world.read_text())
    raw["tasks"]["cola"]["source"] = "./nowhere"
    world.write_text(yaml.safe_dump(raw))
    said = "tasks.cola.source: nowhere: no such folder: give a folder of .jsonl, .csv or .parquet files"
    for command in (["check", world], ["data", world, "cola"]):
        assert run(capsys, *command) == (2, [f"remerge: {said}"])


def test_all_that_is_missing_is_listed_and_the_rest_is_checked(world, capsys):
    raw = yaml.safe_load(world.read_text())
    raw["base"]["source"] = "./nowhere"
    raw["tasks"]["cola"] |= {"source": "./nothing", "expert": "./nobody"}
    world.write_text(yaml.safe_dump(raw))
    assert main(["check", str(world), "--time"]) == 2
    told = capsys.readouterr()
    keys = ["base.source", "tasks.cola.expert", "tasks.cola.source"]
    assert [line.split(": ")[1] for line in told.err.splitlines()] == keys
    assert "of memory for each job at a time" in told.out


@pytest.mark.parametrize("key", ["base.source", "tasks.cola.expert"])
def test_models_that_are_not_there(world, capsys, key):
    raw = yaml.safe_load(world.read_text())
    *places, last = key.split(".")
    found = raw
    for place in places:
        found = found[place]
    found[last] = "./nowhere"
    world.write_text(yaml.safe_dump(raw))
    assert run(capsys, "check", world) == (
        2,
        [f"remerge: {key}: nowhere: no such folder: give a folder made by save_pretrained"],
    )
    stage = {"base": ["base", world], "tasks": ["experts", world, "cola"]}[places[0]]
    if places[0] == "tasks":
        assert main(["base", str(world)]) == 0
    assert run(capsys, *stage)[1][0].startswith(f"remerge: {key}: ./nowhere: no such folder")


def test_a_benchmark_is_run_with_snakemakes_own_options(world, capsys):
    def planned(*words):
        command = [sys.executable, "-m", "remerge", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    start = ["run", str(world)]
    assert "Data of cola" in planned(*start, "results/w/data/cola.json", "-n")
    assert not (world.parent / "results").exists()
    assert "Data of qasc" in planned("demo", "t5", "results/demo-t5/data/qasc.json", "-n")
    # The value of an option is no name.
    assert "Data of cola" in planned("demo", "--cores", "1", "-n", "--", "results/demo/data/cola.json")
    assert main(["demo", "nope"]) == 2
    assert "unknown miniature 'nope', known: approximate, demo, " in capsys.readouterr().err
    assert main([*start, "--configfile", "other.yaml"]) == 2
    assert f"--configfile: {world} is the configuration: write `include:`" in capsys.readouterr().err
    world.write_text("x: 1")
    assert main(start) == 2
    with pytest.raises(SystemExit):
        main(["check", str(world), "-n"])


def test_a_run_is_snakemake_and_ends_with_the_command_that_began_it(world):
    command = [sys.executable, "-m", "remerge", "run", str(world), "--list-rules"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        words = psutil.Process(process.pid).cmdline
        deadline = time.monotonic() + 60
        while "snakemake" not in words() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "snakemake" in words()
        assert "merge_" in process.communicate()[0]


def test_the_command_that_runs_a_benchmark_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch.command("demo") == "remerge demo demo"
    assert launch.command("demo-t5") == "remerge demo t5"
    assert launch.command("t5") == "remerge run results/t5/config.yaml"
    (tmp_path / "Snakefile").touch()
    assert launch.command("mine") == "snakemake --configfile results/mine/config.yaml --cores all --"
    (tmp_path / "mine.yaml").touch()
    assert launch.command("mine") == "snakemake --configfile mine.yaml --cores all --"
    (tmp_path / "config").mkdir()
    (tmp_path / "config/mine.yaml").touch()
    assert launch.command("mine") == "snakemake --configfile config/mine.yaml --cores all --"


def rows_of(printed):
    """The lines of the table of times, by what they begin with."""
    lines = printed.splitlines()
    table = lines[next(k for k, line in enumerate(lines) if line.startswith("time on this machine")) :]
    assert all(len(line) <= 100 for line in table[1:])
    return {line[:76].strip(): line[76:].split() for line in table}


def test_what_a_benchmark_would_take_is_measured_and_nothing_is_made(world, capsys, quick):
    raw = yaml.safe_load(world.read_text())
    del raw["tasks"]["cola"]["expert"]
    raw["finetune"] = {"steps": 3, "batch_size": 2}
    raw["merge"]["variants"] = ["ties", "fisher", "regmean", {"divmerge": {"epochs": 1}}]
    world.write_text(yaml.safe_dump(raw))
    assert main(["check", str(world), "--time"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["experts"][0] == "3" and rows["statistics"][0] == "4" and rows["references"][0] == "2"
    assert {"merges: ties", "merges: fisher", "merges: regmean", "merges: divmerge@epochs=1"} < rows.keys()
    assert not (world.parent / "results").exists()


def test_inputs_that_are_not_at_hand_have_stand_ins(world, capsys, quick):
    raw = yaml.safe_load(world.read_text())
    raw["tasks"]["cola"]["source"] = "nobody/has-this"
    world.write_text(yaml.safe_dump(raw))
    assert main(["check", str(world), "--time"]) == 0
    assert "inputs of 256 tokens stand in for those of cola, which" in capsys.readouterr().out


def test_a_base_that_is_not_at_hand_cannot_be_timed(world, capsys):
    raw = yaml.safe_load(world.read_text())
    raw["base"]["source"] = "nobody/has-this"
    world.write_text(yaml.safe_dump(raw))
    told = "remerge: base.source: nobody/has-this is not on this machine: run hf download nobody/has-this"
    assert run(capsys, "check", world, "--time") == (2, [told])
