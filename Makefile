# From a clone to a trained network: `make quickstart`. Everything is installed into .venv, nothing outside.

PYTHON ?= python3
RUN ?= runs/quickstart
VENV := .venv
VENV_JAX := .venv-jax
BESIDE_219 := 'tensorflow-metadata<1.18' # a newer one needs a protobuf that TensorFlow 2.19 does not take
# Two processes, each with whole files: their fixtures (a trained run, say) are made once.
PARALLEL := -n 2 --dist loadfile
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

# Written when an installation is complete, so that an interrupted one is repeated.
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow test-tf219 test-tf220 lint types clean python

help: ## this list
	@echo "usage: make TARGET [PYTHON=python3.12]"
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: $(INSTALLED) ## train a small network on the embedded images, evaluate, export, predict (RUN=directory)
	@echo
	@echo "1/4 Train: a small EfficientNet on the embedded Fashion-MNIST images, into $(RUN)."
	@echo "    Every option is in flags/quickstart.flags. Run again, it continues from the last checkpoint."
	$(VENV)/bin/python main.py --flagfile=quickstart --model_dir='$(RUN)'
	@echo
	@echo "2/4 Evaluate: the trained network on all validation images."
	$(VENV)/bin/python main.py evaluate --model_dir='$(RUN)'
	@echo
	@echo "3/4 Export: a SavedModel that takes the bytes of image files, into $(RUN)/export."
	@if [ -e '$(RUN)/export' ]; then echo "$(RUN)/export is there already; delete it to export again."; else \
	  set -x; $(VENV)/bin/python main.py export --model_dir='$(RUN)' --output_dir='$(RUN)/export'; fi
	@echo
	@echo "4/4 Predict: the exported model on pictures it has not seen, drawn into $(RUN)/predictions.png."
	$(VENV)/bin/python main.py predict --saved_model='$(RUN)/export' --picture='$(RUN)/predictions.png' \
	  efficientnet_tpu/data/sources/fashion_mnist/pictures

test: $(INSTALLED_TEST) ## everything that must hold before a commit: packages, style, types, fast tests
	$(VENV)/bin/python -m pip --disable-pip-version-check check
	@$(MAKE) --no-print-directory lint types
	$(VENV)/bin/python -m pytest $(PARALLEL)

test-slow: $(INSTALLED_TEST) ## the slow tests
	$(VENV)/bin/python -m pytest -m slow

test-tf219 test-tf220: test-tf2%: .venv-tf2%/.installed
	.venv-tf2$*/bin/python -m pytest $(PARALLEL)
test-tf219: ## the fast tests on TensorFlow 2.19, the release for TPUs, on Python 3.11 or 3.12 (an environment of its own)
test-tf220: ## the fast tests on TensorFlow 2.20, of which there is a TPU build too (an environment of its own)

lint: $(INSTALLED_TEST) ## style (ruff)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

types: $(INSTALLED_TEST) ## types of the modules that need no TensorFlow (basedpyright)
	$(VENV)/bin/basedpyright

clean: ## remove environments, caches and builds; runs stay
	rm -rf $(VENV) .venv-tf219 .venv-tf220 $(VENV_JAX) build dist *.egg-info .pytest_cache .ruff_cache
	find efficientnet_tpu tests -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is not there: install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$(PYTHON) is `$(PYTHON) --version 2>&1`; TensorFlow 2.20 and 2.21 with Keras 3.13 and newer run on 3.11," \
	    "3.12 and 3.13, TensorFlow 2.19 on 3.11 and 3.12. Name one of these: make PYTHON=python3.12"; exit 1; }

# The version is looked at only when something is to be installed.
$(INSTALLED): requirements.txt pyproject.toml
	@$(MAKE) --no-print-directory python
	$(PYTHON) -m venv $(VENV)
	@echo "installing TensorFlow and the rest into $(VENV) (about 1-2 minutes)"
	@$(VENV)/bin/python $(PIP_INSTALL) -r requirements.txt
	@touch $@

$(INSTALLED_TEST): $(INSTALLED)
	@echo "installing pytest, ruff and basedpyright into $(VENV) (a few seconds)"
	@$(VENV)/bin/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $@

.venv-tf2%/.installed: requirements.txt pyproject.toml
	@$(MAKE) --no-print-directory python
	$(PYTHON) -m venv .venv-tf2$*
	@echo "installing TensorFlow 2.$* and the rest into .venv-tf2$* (about 1-2 minutes)"
	@.venv-tf2$*/bin/python $(PIP_INSTALL) 'tensorflow==2.$*.*' $(BESIDE_2$*) -r requirements.txt --editable '.[dev]'
	@touch $@
