# One line of help each: `make help`. Everything runs in an environment that bootstrap.py makes from locked requirements.
PYTHON ?= python3
DEV := $(PYTHON) bootstrap.py in dev
UV ?= uv
# An optional part of jsonschema's format checks that nothing here uses: it builds a parser for over a second at every
# start of a session.
UNUSED := --no-emit-package rfc3987-syntax --no-emit-package lark

.DEFAULT_GOAL := help
.PHONY: help run test bench lint docs labextension vscode lock clean

help:   ## show this list
	@sed -n 's/^\([a-z]*\): *## */  make \1\t/p' $(MAKEFILE_LIST)

run:    ## start Armillary on this machine (ARGS="--port 8001" and the like are passed on)
	@$(PYTHON) bootstrap.py run $(ARGS)

test:   ## run the tests, tier by tier; one or some of them with TIER="unit hub"
	@$(DEV) python -m tests.tiers $(TIER)

bench:  ## run the benchmarks in full and write their tables into docs/
	@$(DEV) python -m tests.bench.spawn --pairs 40 --write docs/reference/benchmarks
	@$(DEV) python -m tests.bench.capacity --write docs/reference/benchmarks
	@$(DEV) python -m tests.bench.admission --write docs/reference/benchmarks
	@$(DEV) python -m tests.bench.storm --write docs/reference/benchmarks

lint:   ## ruff, mypy strict and the import contract
	@$(DEV) python -m tests.tiers lint

docs:   ## build the documentation; warnings are errors
	@$(DEV) python -m docs.build

labextension: ## build the JupyterLab extension as a wheel in dist/, which installs without Node
	@$(DEV) python images/labextension/build.py wheel --into dist

vscode: labextension ## install VS Code for `make run`, once; with the JupyterLab extension, which starts it
	@$(PYTHON) bootstrap.py vscode

lock:   ## resolve the requirements anew (needs uv)
	$(UV) pip compile -q --universal --python-version 3.11 --all-extras pyproject.toml -o requirements/dev.txt \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate $(UNUSED)
	$(UV) pip compile -q --universal --python-version 3.11 --extra local pyproject.toml -o requirements/run.txt \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate $(UNUSED) -c requirements/dev.txt
	$(UV) pip compile -q --universal --python-version 3.11 --extra image pyproject.toml -o images/hub/requirements.txt \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate $(UNUSED) -c requirements/dev.txt
	$(UV) pip compile -q --universal --python-version 3.11 images/proxy/requirements.in \
	  -o images/proxy/requirements.txt --generate-hashes --no-emit-index-url --no-header --no-annotate -c requirements/dev.txt
	$(UV) pip compile -q --universal --python-version 3.11 images/vscode/requirements.in \
	  -o images/vscode/requirements.txt --generate-hashes --no-emit-index-url --no-header --no-annotate
	$(UV) pip compile -q --universal --python-version 3.11 images/gpu/pytorch.in -o images/gpu/pytorch.txt \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -c images/base/requirements.txt
	$(UV) pip compile -q --universal --python-version 3.11 images/gpu/requirements.in -o images/gpu/requirements.txt \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -c images/gpu/pytorch.txt
	$(UV) pip compile -q --universal --python-version 3.11 images/quantum/requirements.in \
	  -o images/quantum/requirements.txt --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  -c images/base/requirements.txt
	$(UV) pip compile -q --universal --python-version 3.11 tests/hub/mlflow/requirements.in \
	  -o tests/hub/mlflow/requirements.txt --generate-hashes --no-emit-index-url --no-header --no-annotate

clean:  ## remove homes, accounts, logs and environments of this checkout, after asking
	@$(PYTHON) bootstrap.py clean $(ARGS)
