# make demo: the miniature benchmark, from nothing to results/demo/report.html
# make test: every test

PYTHON ?= python3
BIN := .venv/bin
PROFILE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo local)
SNAKEMAKE := $(BIN)/snakemake --workflow-profile workflow/profiles/$(PROFILE)
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: demo demo-full test check clean

demo: .venv/run
	$(SNAKEMAKE) --configfile config/demo.yaml

demo-full: .venv/run
	$(SNAKEMAKE) --configfile config/demo-full.yaml

test: .venv/dev
	$(BIN)/python -m pytest

check: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy

.venv/run: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps -e .
	touch $@

.venv/dev: requirements-dev.lock .venv/run
	$(BIN)/pip install --quiet -r requirements-dev.lock
	touch $@

clean:
	rm -rf .venv .snakemake

# The released base of the miniature benchmark, pretrained again: minutes on two cores.
.PHONY: base
base: .venv/run
	$(SNAKEMAKE) --configfile config/demo.yaml --config benchmark=pretraining base='{"source": "miniature"}' \
		-- results/pretraining/base.json
	cp results/pretraining/base/* models/miniature-qwen2/
