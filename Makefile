# What can be asked of this repository; `make help` lists it. Needs make, git and Python 3.11 or later, nothing else.

VENV ?= .venv
BIN := $(VENV)/bin
CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
FEW := $(shell n=$(CORES); [ $$n -gt 4 ] && n=4; echo $$n)
# Workers of the quickstart's search; processes that run the tests, one thread each.
WORKERS ?= $(FEW)
JOBS ?= $(FEW)
ARGS ?=
# $(call pip,PYTHON,ARGUMENTS): what pip says is shown where it fails; its warnings are nothing that a user can act on.
pip = $(1) -m pip install --disable-pip-version-check --quiet $(2) > $(VENV)/pip.log 2>&1 || { cat $(VENV)/pip.log >&2; exit 1; }
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
# Those files of benchmarks/ that are programs.
BENCHMARKS := $(sort $(patsubst benchmarks/%.py,bench-%,$(shell grep -l __main__ benchmarks/*.py)))

.DEFAULT_GOAL := help
.PHONY: help quickstart install dev test test-row test-slow test-portable test-lowest test-extras test-faults lint format docs gallery site \
  wheel release clean $(BENCHMARKS)

help:  ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@for name in $(BENCHMARKS); do echo "  make $$name"; done

quickstart: $(VENV)/installed  ## install into .venv and search attention for a small ResNet: a few minutes
	@$(BIN)/nas-attn search cued-digits --workers $(WORKERS) $(ARGS)

install: $(VENV)/installed  ## install into .venv

dev: $(VENV)/installed-dev  ## install into .venv with what tests and checks need

test: $(VENV)/installed-dev  ## run the tests; those that need what is not here (PostgreSQL, a GPU) are skipped and named
	@$(PYTEST) $(ARGS)

test-row: $(VENV)/installed-dev  ## run the tests of one row of a table: NAME=grn; module, sampler, mode, cost, metric, task, format
	@$(PYTEST) -m "slow or not slow" --row $(NAME) $(ARGS)

test-slow: $(VENV)/installed-dev  ## run all tests, the long ones included
	@$(PYTEST) -m "slow or not slow" --timeout 1800 $(ARGS)

test-portable: $(VENV)/installed-dev  ## run the tests without fcntl, os.fork, SIGUSR1 and /proc, as on Windows and macOS
	@$(PYTEST) -p tests.portable_platform $(ARGS)

# Commas in a call's argument would divide it.
LOWEST := '.[timm,onnx,detection]' pytest pytest-timeout pytest-xdist hypothesis scikit-learn

test-lowest: | $(BIN)/python  ## run the tests with the lowest versions that pyproject.toml allows, in build/lowest
	@$(BIN)/python -m venv --clear build/lowest
	@$(BIN)/python tools/release.py --lowest > build/lowest/versions.txt
	@$(call pip,build/lowest/bin/python,--constraint build/lowest/versions.txt --editable $(LOWEST))
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 build/lowest/bin/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# What users may have beside it, with the trackers that are extras of ours.
EXTRAS := '.[dev,bands,dicom,tensorboard,mlflow,wandb]' ray ultralytics segmentation-models-pytorch lightning transformers monai peft \
  torchinfo datasets ncnn pnnx onnxslim webdataset grad-cam albumentations

test-extras: build/extras/installed  ## run the tests that need what only some users have, installed into build/extras; as root, Chromium, too
	@command -v chromium > /dev/null || command -v google-chrome > /dev/null || [ "$$(id -u)" != 0 ] || \
	  { apt-get -qq update && apt-get -qq install --yes chromium; } > build/extras/apt.log 2>&1 || \
	  echo "apt-get installs no Chromium here (build/extras/apt.log says why): its tests are skipped"
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 build/extras/bin/python -m pytest -p tests.watched -n $(JOBS) --dist worksteal \
	  -m extras --timeout 1800 $(ARGS)

# Sequences of faults against a small study, and events in each; FAULTS_TALLY=FILE counts them by kind, and does not shrink.
FAULTS_EXAMPLES ?= 100
FAULTS_STEPS ?= 25

test-faults: $(VENV)/installed-dev  ## kill, stop, cut, fill and restart at random under a small study; ARGS="--hypothesis-seed 7"
	@FAULTS_EXAMPLES=$(FAULTS_EXAMPLES) FAULTS_STEPS=$(FAULTS_STEPS) OMP_NUM_THREADS=1 \
	  $(BIN)/python -m pytest -n 0 -m "slow or not slow" tests/faults $(ARGS)

lint: $(VENV)/installed-dev  ## check style, format, imports between packages, and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@# mypy forgets all it knows when its options change: each run has a cache of its own
	@for platform in linux win32 darwin; do \
	  $(BIN)/mypy --cache-dir .mypy_cache/$$platform --platform $$platform || exit 1; done
	@$(BIN)/mypy --cache-dir .mypy_cache/tests --config-file tests/mypy.ini tests
	@$(BIN)/mypy --cache-dir .mypy_cache/conftest --config-file tests/mypy.ini --explicit-package-bases \
	  $$(git ls-files 'tests/*conftest.py')

format: $(VENV)/installed-dev  ## write the code in the common format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

docs: $(VENV)/installed-dev  ## write docs/reference/, where-attention-helps.md and the figures of docs/benchmarks from schemas and tables
	@$(BIN)/python docs/reference/write_recipe.py
	@$(BIN)/python docs/reference/write_attention.py
	@$(BIN)/python docs/reference/write_database.py
	@$(BIN)/python docs/reference/write_glossary.py
	@$(BIN)/python -m research.evidence.pooling
	@$(BIN)/python docs/write_evidence.py
	@$(BIN)/python docs/write_figures.py

gallery: $(VENV)/installed-dev  ## write docs/get-started/gallery.md and all pictures of docs/ from what is kept; ARGS="--run FOLDER" runs the examples
	@$(BIN)/python docs/write_gallery.py $(ARGS)
	@$(BIN)/python docs/write_figures.py
	@$(BIN)/python -m research.start.analysis
	@$(BIN)/python -m research.trial.analysis

site: $(VENV)/installed-dev  ## build the documentation site into build/site
	@$(BIN)/python docs/write_site.py

wheel: $(VENV)/installed-dev  ## build the wheel and the source archive into dist/
	@$(BIN)/python -m build --outdir dist .

release: | $(BIN)/python  ## build what is published, install it into an empty environment, and try it there
	@$(call pip,$(BIN)/python,'build>=1.2' 'twine>=6.0')
	@$(BIN)/python tools/release.py

$(BENCHMARKS): bench-%: $(VENV)/installed-dev
	@$(BIN)/python -m benchmarks.$* $(ARGS)

clean:  ## remove .venv and everything that can be made again; studies and reports stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps below are files, so each step is done once and again only when what it depends on has changed.

$(BIN)/python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python3.14; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  echo "Making $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv --clear $(VENV) && exit 0; \
	  rm -rf $(VENV); \
	  echo "'$$python -m venv' failed (above): on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; \
	done; \
	echo "No Python 3.11 or later was found: install one, or name it with make PYTHON=/path/to/python3" >&2; exit 1

$(VENV)/installed: pyproject.toml nas_attn/_version.py | $(BIN)/python
	@echo "Installing; PyTorch is large, so the first time takes a few minutes"
	@$(call pip,$(BIN)/python,--editable '.[dashboard]')
	@touch $@

$(VENV)/installed-dev: pyproject.toml nas_attn/_version.py | $(BIN)/python
	@echo "Installing with what tests and checks need; the first time takes a few minutes"
	@$(call pip,$(BIN)/python,--editable '.[dev]')
	@touch $(VENV)/installed $@

# Ultralytics brings an OpenCV that needs the libraries of a screen; the one without takes its place.
build/extras/installed: pyproject.toml | $(VENV)/installed-dev
	@echo "Installing into build/extras what users may have beside it; the first time takes a few minutes"
	@$(BIN)/python -m venv --clear build/extras
	@$(BIN)/python -m pip freeze | grep -E '^(torch|torchvision)==' > build/extras/versions.txt
	@$(call pip,build/extras/bin/python,--constraint build/extras/versions.txt --editable $(EXTRAS))
	@# Both builds of OpenCV lie in one folder, which goes with whichever is removed.
	@build/extras/bin/python -m pip uninstall --quiet --yes opencv-python
	@$(call pip,build/extras/bin/python,--no-deps --force-reinstall opencv-python-headless)
	@touch $@
