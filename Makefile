# The two commands of the README, and what they stand on. `make help` lists them.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
PYTHON ?= python3.11
PY := .venv/bin/python
# Without a GPU driver TensorFlow reports an error a process; Python's errors still show.
export TF_CPP_MIN_LOG_LEVEL ?= 3
DATA := data/mnist
RUN := runs/mnist
RUNTIME_LOCK := requirements.txt
DEV_LOCK := requirements-dev.txt
TPU_COMPILER := .venv-tpu-compiler
# --compile-bytecode: else every process may compile what it imports, 8 s for TensorFlow.
INSTALL := .venv/bin/uv pip install --quiet --compile-bytecode --require-hashes --python

.PHONY: help setup tpu-compiler train test lint types soak peers lock clean

help:  ## List the targets.
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: .venv/.installed  ## Make .venv from the hashed locks (the other targets do it, too).

.venv/.installed: requirements-setup.txt $(RUNTIME_LOCK) $(DEV_LOCK)
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON); install Python 3.11, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Making .venv from the locked requirements (about 3 GB)"
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --require-hashes -r requirements-setup.txt
	# pip, where uv cannot (a package mirror that is configured for pip alone).
	$(INSTALL) $(PY) -r $(RUNTIME_LOCK) -r $(DEV_LOCK) || \
	  .venv/bin/pip install --quiet --require-hashes -r $(RUNTIME_LOCK) -r $(DEV_LOCK)
	@touch $@

tpu-compiler: $(TPU_COMPILER)/.installed  ## The compiler of TPUs, for python -m preflight (1.1 GB).

# An environment of its own: on a TPU VM, TensorFlow needs another libtpu.
$(TPU_COMPILER)/.installed: .venv/.installed requirements-tpu-compiler.txt
	$(PYTHON) -m venv $(TPU_COMPILER)
	$(INSTALL) $(TPU_COMPILER)/bin/python -r requirements-tpu-compiler.txt || \
	  $(TPU_COMPILER)/bin/pip install --quiet --require-hashes -r requirements-tpu-compiler.txt
	@touch $@

train: .venv/.installed  ## Prepare digits, train, evaluate, export, classify (5 minutes).
	$(PY) -m input_pipeline.prepare mnist --output $(DATA)
	$(PY) -m train.main --gin_file=gin_configs/runs/mnist_cpu.gin \
	  --gin_param="experiment.Experiment.data_dir = '$(DATA)'" --model_dir=$(RUN)
	$(PY) -m train.export --model_dir=$(RUN) --export_dir=$(RUN)/export
	$(PY) -m train.classify --export_dir=$(RUN)/export --tfrecords='$(DATA)/validation-*'
	@echo "Data: $(DATA)   run: $(RUN)   scores: $(RUN)/summary.json   SavedModel: $(RUN)/export"
	@echo "Curves: $(PY) -m tensorboard.main --logdir $(RUN)"

test: lint types $(TPU_COMPILER)/.installed  ## Lint, types, import directions, all tests but the slow ones.
	$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.installed
	.venv/bin/ruff check --quiet .
	.venv/bin/ruff format --quiet --check .
	.venv/bin/lint-imports --no-cache --verbose >/dev/null || .venv/bin/lint-imports --no-cache

types: .venv/.installed
	.venv/bin/pyright

soak: $(TPU_COMPILER)/.installed  ## The long proofs: every test marked slow (35 minutes of CPU).
	$(PY) -m pytest -q -m "slow and not peers"

peers: .venv/.peers  ## Compare with timm's own code (installs torch: 5 GB).
	$(PY) -m pytest -q -m peers

.venv/.peers: $(TPU_COMPILER)/.installed requirements-peers.txt
	$(INSTALL) $(PY) -r requirements-peers.txt
	@touch $@

lock: .venv/.installed  ## Lock the requirements anew, at the newest versions allowed.
	set -e; for name in requirements requirements-dev requirements-peers requirements-setup requirements-gpu requirements-tpu-compiler; do \
	  $(COMPILE) $$name.in -o $$name.txt; done
	$(COMPILE) requirements-tpu.in --override requirements-tpu.override -o requirements-tpu.txt

COMPILE := .venv/bin/uv pip compile --quiet --upgrade --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

clean:  ## Delete what the targets made, .venv excepted.
	rm -rf data/mnist runs/mnist .pytest_cache .ruff_cache

.PHONY: docs

docs: .venv-docs/.installed  ## Build the documentation into site/; a dead link is an error.
	.venv-docs/bin/python -m docgen.site

# An environment of its own (180 MB): the pages are made without importing ours.
.venv-docs/.installed: .venv/.installed requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	$(INSTALL) .venv-docs/bin/python -r requirements/docs.txt || \
	  .venv-docs/bin/pip install --quiet --require-hashes -r requirements/docs.txt
	@touch $@
