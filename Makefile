# The commands of the study. Each does its own set-up: .venv, as requirements.txt pins it (tools/environment.py).
# Works with GNU make 3.81, which macOS has. Paths are relative, so the checkout may lie in a folder with spaces.
.DEFAULT_GOAL := help
.PHONY: help setup study book test test-all chapters lint browser requirements archive messages clean

# name another with `make PYTHON=/path/to/python3 ...`
PYTHON :=
PYTHONS := $(if $(PYTHON),"$(PYTHON)",python3 python3.12 python3.11 python3.13)

# Snakemake, uv, npm and Jupyter each want a home that they can write to
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
  $(shell mkdir -p _build/home)
  export HOME := $(CURDIR)/_build/home
endif

RUN := .venv/bin/python
# the Snakefile says what is made, and from what; what is done already is left alone
SNAKEMAKE := $(RUN) -m snakemake
# one thread each, or those that run beside it would fight for the cores
PYTEST := TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(RUN) -m pytest -q
# a test module on one worker, in the order of tests/conftest.py
TWO := -n 2 --dist loadscope --no-loadscope-reorder

help:  ## show this list
	@echo "make study is for newcomers, make test for those who change something."
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 20

# The set-up script runs with the first Python that is new enough and that the pins have wheels for.
setup:  ## make .venv, or update it; the other commands do this by themselves
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then \
	    exec "$$python" tools/environment.py $(TASK); \
	  fi; \
	done; \
	echo 'set-up: found no Python from 3.11 to 3.13 as' $(PYTHONS) >&2; \
	echo 'set-up: install one, or name one: make PYTHON=/path/to/python3 ...' >&2; \
	exit 1

study: setup  ## train on synthetic data and build the whole book of it: 3 to 8 minutes on 2 cores
	$(SNAKEMAKE)
	@echo 'The book is ready. Open _build/study/html/index.html'

book: setup  ## build the book from the committed notebooks and records
	$(SNAKEMAKE) book --config profile=paper
	@echo 'The book is ready. Open _build/html/index.html'

# most of the book is made on one core; the lint and the chapters have the other
test:  ## check everything: 10 to 15 minutes on 2 cores
	@$(MAKE) -j 2 lint browser book chapters
	$(PYTEST) $(TWO) -m "not slow" tests

test-all:  ## make test, with the slow tests and far longer fuzzing
	@$(MAKE) -j 2 lint browser book chapters
	HWR_FUZZ_EXAMPLES=5000 $(PYTEST) $(TWO) -m "" tests

chapters: setup  ## execute the notebooks, and compare with what they are committed with
	$(PYTEST) --nbval notebooks

lint: setup  ## check style and types, in notebooks and the playground too
	$(RUN) -m ruff check
	$(RUN) -m mypy hwr_utils tools book
	.venv/bin/lint-imports
	@$(RUN) tools/environment.py tsc -p book/playground
	@$(RUN) tools/environment.py tsc -p book/playground/tsconfig.worker.json

browser: setup
	@$(RUN) tools/browser.py

requirements: TASK := compile $(UPGRADE)
requirements: setup  ## write requirements.txt from pyproject.toml; UPGRADE=--upgrade moves every pin

messages: setup  ## collect in locale/ko what is to be translated into Korean
	$(RUN) tools/messages.py

archive: setup  ## write all run records into one zip file, for a deposit with a DOI
	$(RUN) tools/archive.py

clean:  ## remove what was built, but not .venv, data or results
	rm -rf _build .snakemake .mypy_cache .pytest_cache .ruff_cache .hypothesis
