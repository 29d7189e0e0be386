# Every target creates .venv by itself; nothing but Python 3.11+, make and git is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKBENCH := $(BIN)/workbench
TRACE_ARGS := $(if $(TRACE),--trace $(TRACE),)

.DEFAULT_GOAL := help
.PHONY: help python-is-new-enough install install-runtime install-bench demo test test-slow sim soak nemesis check format proto bench lock docs screenshots clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

# The stamp is a copy of what was installed, compared by content: a checkout that only
# touches times installs nothing.
python-is-new-enough:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "the workbench needs Python 3.11 or newer, $(PYTHON) is older;" \
	    "name another: make PYTHON=python3.12 ..." >&2; exit 1; }

install: python-is-new-enough ## Install everything that tests and checks need, into .venv
	@$(PYTHON) tools/install.py --venv $(VENV) --lock requirements/dev.lock

install-runtime: python-is-new-enough
	@$(PYTHON) tools/install.py --venv $(VENV) --lock requirements/runtime.lock

demo: install-runtime ## Run the main job end to end; TRACE=FILE for a trace of your own
	$(WORKBENCH) demo $(TRACE_ARGS)

# File by file, so that what tests of a file share is started once.
test: install ## Run the tests that CI runs
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: install ## Run the tests marked slow
	$(BIN)/python -m pytest -m slow

sim: install ## 10,000 seeded schedules of simulated faults each: of nodes, of the catalog
	$(BIN)/python -m workbench.sim.cluster --schedules 10000 --jobs 2
	$(BIN)/python -m workbench.sim.catalog --schedules 10000 --jobs 2

soak: install ## Many processes commit to one catalog, some killed with -9; on a disk, then on S3
	$(BIN)/python tools/catalog_soak.py --processes 8 --batches 10000 --kill 2
	$(BIN)/python tools/catalog_soak.py --processes 8 --batches 2000 --kill 3 --moto

nemesis: install ## Nodes killed, paused and cut off while clients write, on real disks
	$(BIN)/python -m pytest tests/process/test_nemesis.py -m slow -s

check: install ## Lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: install ## Rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: install ## Generate the node's protobuf code anew
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. workbench/node/proto/*.proto

install-bench: python-is-new-enough
	@$(PYTHON) tools/install.py --venv $(VENV) --lock requirements/bench.lock

bench: install-bench ## Measure, as ratios in one run; prints the tables of benchmarks/README.md
	$(BIN)/python -m benchmarks

lock: ## Compile the lock files anew (needs `uv` on PATH)
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  pyproject.toml requirements/build.in -o requirements/runtime.lock
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  pyproject.toml requirements/build.in --extra dev -c requirements/runtime.lock -o requirements/dev.lock
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  pyproject.toml requirements/build.in --extra dev --extra bench -c requirements/dev.lock \
	  -o requirements/bench.lock

docs: install ## Build the documentation into site/
	$(BIN)/python -m mkdocs build --strict

screenshots: install ## Take the README's pictures from the real thing (needs Chromium)
	$(BIN)/python tools/screenshots.py

clean: ## Remove what the other targets made
	rm -rf $(VENV) .workbench site report.html .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
