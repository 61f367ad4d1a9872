"""Write the recipe of one merge and run mergekit on it."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

given = globals()["snakemake"]
# Resolved: mergekit takes a relative path of two parts for an id on the hub.
base, *experts = (str(Path(json.loads(Path(record).read_text())["path"]).resolve()) for record in given.input)
weights = {"density": given.params.density, "weight": 1.0}
recipe = {
    "merge_method": "ties",
    "base_model": base,
    "models": [{"model": expert, "parameters": weights} for expert in experts],
    "parameters": {"normalize": True, "lambda": given.params.scale},
    "dtype": "float32",
}
folder = Path(given.output[0])
folder.mkdir(parents=True)
(folder / "mergekit.yml").write_text(yaml.safe_dump(recipe))
command = [Path(sys.executable).with_name("mergekit-yaml"), folder / "mergekit.yml", folder]
with Path(given.log[0]).open("w") as log:
    subprocess.run([*map(str, command)], stdout=log, stderr=subprocess.STDOUT, check=True)
