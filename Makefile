# `make demo` and `make test` are all that a fresh machine needs (Python 3.11 or newer, make, a package registry).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

# Where CPU builds of torch are found beside the registry that pip is set to, which may hold only CUDA builds. auto:
# PyTorch's own index, on a machine without a GPU and if it answers; empty: the registry alone.
TORCH_INDEX ?= auto
CPU_BUILDS  := https://download.pytorch.org/whl/cpu
ANSWERS     := import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=5)

DEMO_RUN      := $(BIN)/sdretrieval run configs/stdlib.yaml
DEMO_SEARCHES := $(BIN)/python -m pipelines.demo

COLLECTIONS ?= feedbackqa covidqa_passage scifact
ABLATION    := $(BIN)/python -m benchmarks.ablations configs/own-documents.yaml --set pretrain=null --table asymmetries --split test --most 400 \
  --stride 100 --set student.max_tokens=128 --set teacher.members.0.view.stride=100 --set corpus.dev_queries=200 \
  --set corpus.generated_queries=1000 --set student.encode_precision=bfloat16

GPU    := $(shell nvidia-smi >/dev/null 2>&1 && echo yes)
EXTRAS := $(if $(GPU),gpu,cpu),demo,dev
# A GPU machine takes the torch that its registry offers (built with CUDA); every other version stays pinned.
PINS   := $(if $(GPU),grep -v '^torch==' constraints-cpu.txt,cat constraints-cpu.txt)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench ablations docs format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv with everything in it (about 3 minutes, once; again when the pins change)

# The stamp comes last, so that an interrupted set-up is done again.
$(STAMP): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "sdretrieval needs Python 3.11 or newer; '$(PYTHON)' is $$(command -v $(PYTHON) >/dev/null && $(PYTHON) --version 2>&1 || echo not there). Try: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV) with [$(EXTRAS)]: about 3 minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@$(PINS) > $(VENV)/constraints.txt
	@index='$(TORCH_INDEX)'; \
	  if [ "$$index" = auto ]; then \
	    index=; [ -n '$(GPU)' ] || ! $(PYTHON) -c '$(ANSWERS)' $(CPU_BUILDS) 2>/dev/null || index=$(CPU_BUILDS); \
	  fi; \
	  $(BIN)/python -m pip install -qq --disable-pip-version-check $${index:+--extra-index-url $$index} \
	  -c $(VENV)/constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP) ## the main job on Python's own standard library: run, table, searches before and after
	@$(DEMO_RUN)
	@$(DEMO_SEARCHES)

# A process a core, four at most (each makes its own tiny models); a file's tests stay together, since they share runs.
test: $(STAMP) ## all tests, offline; those that need a GPU or real data say why they are skipped
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --durations=10 -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(STAMP) ## format, lint, strict types, import contract
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy --strict sdretrieval
	@$(BIN)/lint-imports

bench: $(STAMP) ## our work beside the peers' parts, in turn: tables in benchmarks/README.md (about half an hour)
	@$(BIN)/python -m benchmarks

# Rows that are measured stay in runs/ablations-asymmetries-COLLECTION.json.
ablations: $(STAMP) ## every teacher, target and way of training on three collections in DATA, a table each (up to an hour; goes on)
	@for name in $(COLLECTIONS); do \
	  [ -f '$(DATA)'/$$name/corpus.jsonl ] || { \
	    echo "make ablations: no collection $$name in '$(DATA)'; name a folder of collections in BEIR's layout: make ablations DATA=FOLDER (others than $(COLLECTIONS) by COLLECTIONS='NAME NAME')" >&2; exit 1; }; \
	done
	@for name in $(COLLECTIONS); do \
	  table=$$($(ABLATION) --set name=asymmetries-$$name --set corpus.source='$(DATA)'/$$name) || exit 1; \
	  printf '\n%s\n\n%s\n' $$name "$$table"; \
	done

# The site's generator is installed only here: nothing else needs it.
docs: $(STAMP) ## build the documentation as a site in site/
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet && echo 'open site/index.html'

format: $(STAMP) ## put the code in the project's format and mend what lint can mend
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

clean: ## remove .venv, caches and build output; runs/ stays
	@rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
