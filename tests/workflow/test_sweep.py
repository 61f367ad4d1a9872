"""The sweep that the README shows, as it stands there, on a benchmark of seconds."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from projects import ROOT, Project, planned, settings


def test_the_shown_sweep_runs(tmp_path: Path) -> None:
    project, raw = Project(tmp_path), settings() | {"benchmark": "demo"}
    del raw["tasks"]["mnli"]
    raw["finetune"] |= {"steps": 400, "multitask": False}
    raw["merge"] = {"variants": ["average"]}
    (tmp_path / "config/demo.yaml").write_text(yaml.safe_dump(raw | {"paper": None}))
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    shown = next(block for block in blocks if block.startswith("for rate in"))
    python = shlex.quote(sys.executable)
    tools = "".join(f'{name}() {{ {python} -m {name} "$@"; }}\n' for name in ("snakemake", "remerge"))
    with project.warm():
        done = subprocess.run(
            ["bash", "-e", "-c", tools + shown],
            cwd=tmp_path,
            env=project.environment,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    for rate in (0.001, 0.003):
        used = yaml.safe_load((tmp_path / f"results/demo-{rate}/config.yaml").read_text())
        assert used["finetune"]["learning_rate"] == rate and used["finetune"]["steps"] == 400
        assert f"results are in results/demo-{rate}/" in done.stderr
        # The file that the report names makes the same results again, where they are.
        again = f"results/demo-{rate}/config.yaml"
        assert (
            f"snakemake --configfile {again} --cores all"
            in Path(tmp_path, again).with_name("report.html").read_text()
        )
        assert not planned("--configfile", again, folder=tmp_path, root=tmp_path)
    page = (tmp_path / "results/rates.html").read_text()
    assert "demo-0.001" in page and "demo-0.003" in page
