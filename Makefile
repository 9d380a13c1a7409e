# Only Python 3.11+ and make are needed; everything else is installed into .venv, by the hashes in requirements/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .cache/bench
T ?= tests
# More than cores, since half of the time a test waits for something.
TEST_PROCESSES ?= 4
.DEFAULT_GOAL := help
# Where an environment forbids bytecode, as in many containers, each process of a run would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=
.DELETE_ON_ERROR:

##@ Everyday
.PHONY: run demo test test-library coverage check
run: install ## Start the whole system and serve it until Ctrl-C (PORT=8000 REPLICAS=3)
	@$(BIN)/python -m service.local

demo: install ## Play an outage and watch the fleet trip, probe and recover (SAVE=picture.svg)
	@$(BIN)/python -m service.demo $(if $(SAVE),--save $(SAVE))

test: install ## Run all tests against servers that they start themselves (T=tests/unit for a part)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) $(T)

LIBRARY_TESTS = $(addprefix tests/,unit/breaker contract model lua integration/breaker conformance interleavings)
test-library: install ## Run the library's tests (another Python: PYTHON=python3.13 VENV=.cache/python3.13)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) $(LIBRARY_TESTS)

# CPython 3.11 does not tell of every line that runs after an exception was thrown into a coroutine.
CHECK_TELLS = import sys; sys.version_info >= (3, 12) or sys.exit("Coverage needs Python 3.12 or newer: " \
	+ "make coverage PYTHON=python3.13 VENV=.cache/python3.13")
coverage: install ## See that the library's tests take every branch of it (PYTHON=python3.13 VENV=.cache/python3.13)
	@$(BIN)/python -c '$(CHECK_TELLS)'
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(TEST_PROCESSES) $(LIBRARY_TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='breaker/*' --skip-covered --show-missing --fail-under=100

check: lint typecheck test ## All that CI runs: lint, typecheck, test

##@ Code
.PHONY: install format lint typecheck docs
install: $(VENV)/.installed ## Install everything into .venv

format: install ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install ## Check style and who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

typecheck: install ## Check types
	$(BIN)/mypy

docs: install ## Write docs/api.md from the docstrings
	$(BIN)/python -m tests.support.api_reference

##@ Under load
.PHONY: bench chaos interleavings mutants
bench: $(BENCH)/.installed ## Measure what the breaker costs, beside others; writes docs/bench.md (about two minutes)
	$(BENCH)/bin/python -m tests.benchmarks

# An environment of its own: what peers pin must neither hold back nor be part of what the library is developed with.
$(BENCH)/.installed: requirements/bench.txt
	$(PYTHON) -c '$(CHECK_PYTHON)' && $(PYTHON) -m venv --clear $(BENCH)
	$(BENCH)/bin/pip install --quiet --require-hashes -r $<
	@touch $@

chaos: install ## Kill replicas and freeze Valkey under traffic
	$(BIN)/python -m pytest tests/chaos

interleavings: install ## Search every order of the steps of three replicas (minutes)
	$(BIN)/python -m tests.interleavings

mutants: install ## Change the machine in many small ways; tests must notice (ten to twenty minutes; SAMPLE=200 SEED=1 for some)
	$(BIN)/python -m tests.mutation $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED))

##@ Database (DATABASE_URL says which)
.PHONY: migrate migration
migrate: install ## Bring the database up to date
	$(BIN)/alembic upgrade head

migration: install ## Write a migration from the models: make migration m="what changes"
	$(BIN)/alembic revision --autogenerate -m "$(m)"

##@ House
.PHONY: help lock clean
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' Makefile

COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header --no-emit-index-url --quiet
lock: install ## Pin the newest allowed dependencies, with hashes
	$(COMPILE) --upgrade --all-extras --group dev -o requirements/dev.txt
	$(COMPILE) --upgrade --extra service -o requirements/service.txt
	$(COMPILE) --upgrade --group bench -c requirements/dev.txt -o requirements/bench.txt

clean: ## Remove .venv, caches and the data of the local run
	rm -rf $(realpath .local/postgres) .local .cache $(VENV) dist .coverage* .hypothesis .import_linter_cache
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A changed lock file makes a new .venv, so that nothing is left of what was dropped from it. uv takes a tenth of pip's
# time, but knows nothing of pip's configuration: where only that leads to the packages, pip does the work.
CHECK_PYTHON = import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is " \
	+ sys.version.split()[0] + "; name another one: make PYTHON=python3.11")
$(BIN)/uv: requirements/dev.txt
	@$(PYTHON) -c '$(CHECK_PYTHON)' && $(PYTHON) -m venv --clear $(VENV)
	awk '/^uv==/,!/\\$$/' requirements/dev.txt | $(BIN)/pip install --quiet --require-hashes -r /dev/stdin
	@touch $@

LOCKED = --quiet --require-hashes -r requirements/dev.txt
$(VENV)/.installed: $(BIN)/uv pyproject.toml
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python $(LOCKED) || $(BIN)/pip install $(LOCKED)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
