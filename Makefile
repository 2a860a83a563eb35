# The two commands of the README, and what they stand on. `make help` lists them.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
# The first of python3.11, python3.12, python3.13 and python3 that will do.
PYTHON ?=
PY := .venv/bin/python
# Without a GPU driver TensorFlow reports an error a process; Python's errors still show.
export TF_CPP_MIN_LOG_LEVEL ?= 3
DATA := data/mnist
RUN := runs/mnist

# Stamps: .venv/.made is as old as the environment, .venv/.has-NAME as what
# requirements/NAME.txt has put into it.
# make setup ACCELERATOR=gpu (or tpu) once; what is in .venv says so later.
ACCELERATOR ?= $(firstword $(foreach one,tpu gpu,$(if $(wildcard .venv/.has-$(one)),$(one))) cpu)
$(if $(filter cpu gpu tpu,$(ACCELERATOR)),,$(error ACCELERATOR is cpu, gpu or tpu, not "$(ACCELERATOR)"))
PACKAGES := .venv/.has-$(subst cpu,core,$(ACCELERATOR))
SETUP := $(PACKAGES) .venv/.has-demo .venv/.fused-ops
DEV := $(SETUP) .venv/.has-dev
COMPILER := .venv-tpu-compiler/.has
LAUNCH := .venv-launch/.has

.NOTPARALLEL:
.SECONDARY:
.PHONY: help setup tpu-compiler launch train test test-long lint types docs soak peers lock clean FORCE

help:  ## List the targets.
	@sed -nE 's/^([a-z%-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 19

setup: $(SETUP)  ## Make .venv from the hashed locks (2.2 GB); ACCELERATOR=gpu or tpu for one.

with-%: .venv/.has-%  ## An extra: pretrained, plots, imagenet, search, benchmarks, peers.
	@echo "requirements/$*.txt is installed in .venv"

.venv/.made: FORCE
	@requirements/environment .venv $(PYTHON)

.venv/.has-%: requirements/%.txt .venv/.made
	@echo "Installing requirements/$*.txt"
	@requirements/install $(PY) $<
	@touch $@

# The input pipeline's C++ ops: without a compiler one line says so, and it does without.
.venv/.fused-ops: $(wildcard input_pipeline/fused/*.py input_pipeline/fused/kernels/*) $(PACKAGES)
	@$(PY) -m input_pipeline.fused.build --optional
	@touch $@

tpu-compiler: $(COMPILER)  ## The compiler of TPUs, for python -m preflight (1.1 GB).

launch: $(LAUNCH)  ## SkyPilot, and what checks jobs, for python -m launch.job (750 MB).

# Environments of their own: on a TPU VM, TensorFlow needs another libtpu than the compiler;
# SkyPilot asks for an older protobuf; the pages are made without importing ours.
.venv-%/.made: .venv/.made FORCE
	@requirements/environment .venv-$* $(PY)

.venv-%/.has: requirements/%.txt .venv-%/.made
	@echo "Installing $< into .venv-$*"
	@requirements/install .venv-$*/bin/python $<
	@touch $@

train: $(SETUP)  ## Prepare digits, train, evaluate, export, classify (5 minutes).
	$(PY) -m input_pipeline.prepare mnist --output $(DATA)
	$(PY) -m train.main --gin_file=gin_configs/runs/mnist_cpu.gin \
	  --gin_param="experiment.Experiment.data_dir = '$(DATA)'" --model_dir=$(RUN)
	$(PY) -m train.export --model_dir=$(RUN) --export_dir=$(RUN)/export
	$(PY) -m train.classify --export_dir=$(RUN)/export --tfrecords='$(DATA)/validation-*'
	@echo "Data: $(DATA)   run: $(RUN)   scores: $(RUN)/summary.json   SavedModel: $(RUN)/export"
	@echo "Curves: $(PY) -m tensorboard.main --logdir $(RUN)"

# One more than two cores: tests wait for processes and files for a third of their time.
PYTEST := $(PY) -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

test: lint $(COMPILER) $(LAUNCH)  ## Lint, types, import directions, all tests but the slow ones.
	$(PYTEST)

test-long: $(DEV) $(COMPILER) $(LAUNCH)  ## The tests that take seconds each, which CI runs, too.
	$(PYTEST) -m "long and not slow and not peers"

lint: $(DEV)
	.venv/bin/ruff check --quiet .
	.venv/bin/ruff format --quiet --check .
	.venv/bin/lint-imports --no-cache --verbose >/dev/null || .venv/bin/lint-imports --no-cache
	.venv/bin/hadolint Dockerfile
	.venv/bin/shellcheck requirements/environment requirements/install .ci/run $(wildcard launch/*.sh launch/*/*.sh)

types: $(DEV)
	.venv/bin/pyright

docs: .venv-docs/.has  ## Build the documentation into site/; a warning or a dead link is an error.
	.venv-docs/bin/python -m docgen.site

soak: $(DEV) $(COMPILER) $(LAUNCH)  ## The long proofs: every test marked slow (40 minutes of CPU).
	$(PY) -m pytest -q -m "slow and not peers"

peers: $(DEV) $(COMPILER) .venv/.has-peers  ## Compare with timm's own code (installs torch: 5 GB).
	$(PY) -m pytest -q -m peers

# Each lock in requirements/ keeps to the versions of requirements.txt; not that of launch,
# whose SkyPilot takes no protobuf of today.
lock: $(SETUP)  ## Lock the requirements anew, at the newest versions allowed.
	$(COMPILE) requirements.in -o requirements.txt
	set -e; for name in $(basename $(filter-out $(FREE),$(wildcard requirements/*.in))); do \
	  $(COMPILE) --config-file requirements/uv.toml --constraints requirements.txt \
	    $$(printf -- '--excludes %s ' requirements/all.excluded $$(ls $$name.excluded 2>/dev/null)) \
	    $$name.in -o $$name.txt; done
	$(COMPILE) $(FREE) -o $(FREE:.in=.txt)

FREE := requirements/launch.in
COMPILE := .venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

clean:  ## Delete what the targets made, .venv excepted.
	rm -rf data/mnist runs/mnist build site .pytest_cache .ruff_cache
