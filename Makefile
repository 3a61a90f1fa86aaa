# The two commands of a newcomer are `make demo` and `make test`; both set up .venv first.
VENV := .venv
PYTHON := $(VENV)/bin/python
# A process per core with one thread each: faster than one process with many threads, and the
# same numbers whatever the number of cores.
PYTEST := OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses auto --dist loadfile
BOOK := _build/html/index.html

.DEFAULT_GOAL := help
.PHONY: help demo test test-bounds test-oldest test-newest notebooks book live javascript ablations tables benchmark gpu lint clean

help:  ## show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(PYTHON):
	python3 -m venv $(VENV)

# One list of dependencies, in pyproject.toml; a stamp per set of extras.
$(VENV)/.installed: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-all: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --editable '.[book,test,export,lora]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed  ## group labels, train ML-VPT and VPT-deep, compare, draw figures into demo/
	$(VENV)/bin/mlvpt demo

test: $(VENV)/.installed-all  ## lint, tests, doctests and every chapter of the book (nbval)
	$(MAKE) lint
	$(PYTEST) tests mlvpt --doctest-modules --cov --cov-report=term:skip-covered
	$(MAKE) notebooks

# Bounds of pyproject.toml: the oldest versions on the oldest Python, which they were made for.
# peft brings transformers, whose version 5 needs a newer torch.
OLDEST_PYTHON ?= python3.10
lowest = $(shell sed -n 's/^ *"\($(1)\)>=\(.*\)",$$/\1==\2/p' pyproject.toml)
CORE := $(wildcard tests/test_*.py tests/files/test_*.py tests/images/test_*.py) tests/training/test_dinov3.py

# $(call in_throwaway,PYTHON,REQUIREMENTS): the core tests in an environment that is removed at the end
in_throwaway = folder=$$(mktemp -d); trap 'rm -rf $$folder' EXIT; $(1) -m venv $$folder && \
	$$folder/bin/python -m pip install --quiet --no-compile --editable '.[test]' $(2) && \
	OMP_NUM_THREADS=1 $$folder/bin/python -m pytest --numprocesses auto $(CORE)

test-bounds: test-oldest test-newest  ## core tests with the oldest torch and timm allowed, and the newest: 2 throwaway environments

test-oldest:
	$(call in_throwaway,$(OLDEST_PYTHON),'$(call lowest,torch)' '$(call lowest,timm)' 'transformers<5')

test-newest:
	$(call in_throwaway,python3,torch timm)

notebooks: $(VENV)/.installed-all  ## run every chapter and compare its outputs, figures apart
	$(PYTEST) --nbval book/

lint: $(VENV)/.installed-all  ## check style, formatting and the direction of imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

book: $(VENV)/.installed-all  ## build the book, warnings are errors
	rm -rf _build
	$(VENV)/bin/jupyter-book build . -n -W
	@echo "Open $(BOOK)"

live: $(VENV)/.installed-all  ## make the data of the live figures again: trains two models, a minute
	$(PYTHON) data_prep/live_figures.py

javascript:  ## check style and formatting of the live figures, with npx (fetches prettier and eslint)
	npx --yes prettier@3 --print-width 100 --check eslint.config.mjs 'book/_static/live/*.{js,css,html}'
	npx --yes eslint@9 book/_static/live

ablations: $(VENV)/.installed-all  ## all baselines and ablations on scenes, 5 seeds each: 2.1 h on 2 cores, resumable
	$(VENV)/bin/mlvpt ablate all --seeds 5

tables: $(VENV)/.installed-all  ## write what is made from other files: tables and figures of results, recipes, first picture
	$(PYTHON) -m mlvpt.studies.pages

benchmark: $(VENV)/.installed-all  ## speed and memory of the prompted ViT, of the loop; time per chapter
	$(PYTHON) benchmarks/prompted_vit.py
	$(PYTHON) benchmarks/training_loop.py
	$(PYTHON) benchmarks/chapters.py

gpu: $(VENV)/.installed-all  ## all that a GPU must show: forms, modes, backends, memory, a whole run (10 min)
	$(PYTHON) benchmarks/gpu.py

clean:  ## remove what can be made again, but .venv
	rm -rf _build demo .pytest_cache .ruff_cache *.egg-info .coverage
